import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Rules, and the tests of them. */
export interface Trial {
  readonly name: string
  /** Rules as they stand in a file of their own; a path to one that is there. */
  readonly rules: readonly object[] | string
  readonly tests: readonly object[]
  /** Seconds between evaluations. */
  readonly step: number
}

/** What `promtool test rules` says against each trial, all of them in one process: starting it costs more than a trial.
 * Empty where it says nothing. */
export async function tryAll(directory: string, trials: readonly Trial[]): Promise<ReadonlyMap<string, string>> {
  await mkdir(directory, { recursive: true })
  const files = await Promise.all(
    trials.map(async ({ rules, tests, step }, index) => {
      const file = join(directory, `${index}.test.json`)
      const ruleFile = typeof rules === 'string' ? rules : join(directory, `${index}.rules.json`)
      if (typeof rules !== 'string') await writeFile(ruleFile, JSON.stringify({ groups: [{ name: 'g', rules }] }))
      await writeFile(file, JSON.stringify({ rule_files: [ruleFile], evaluation_interval: `${step}s`, tests }))
      return file
    }),
  )
  const { out, err } = await promtool(['test', 'rules', ...files])
  const verdicts = out.split(/^Unit Testing: /m).slice(1)
  const complaints = err.split(/^ {2}FAILED:\n/m).slice(1)
  if (verdicts.length !== trials.length)
    throw new Error(`promtool tried ${verdicts.length} of ${trials.length}: ${err}`)
  return new Map(
    trials.map(({ name }, index) => {
      if (/^ {2}SUCCESS$/m.test(verdicts[index] ?? '')) return [name, '']
      return [name, complaints.shift() ?? 'failed']
    }),
  )
}

function promtool(args: readonly string[]): Promise<{ readonly out: string; readonly err: string }> {
  return new Promise((resolve, reject) => {
    execFile('promtool', args, { maxBuffer: 2 ** 30 }, (error, out, err) => {
      if (error !== null && typeof error.code !== 'number') reject(error)
      else resolve({ out, err })
    })
  })
}
