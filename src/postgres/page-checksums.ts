import { LifeboatError } from '../domain/errors.ts'
import { withCause } from './failures.ts'
import { type Installation, programPath } from './installations.ts'
import { type ProgramOptions, runProgram } from './programs.ts'

/** What the checksums of all pages of a cluster say. */
export interface PageChecksums {
  readonly blocks: number
  readonly bad: number
  /** The first few, as pg_checksums tells of them. */
  readonly findings: readonly string[]
}

const maxFindings = 5

/**
 * Checks every page of a data directory whose server was stopped in good order. Null: the cluster has no checksums.
 *
 * Source: https://www.postgresql.org/docs/current/app-pgchecksums.html
 *
 * @throws LifeboatError `program-missing`, `program-failed`
 */
export async function checkPages(
  installation: Installation,
  dataDirectory: string,
  program: Omit<ProgramOptions, 'program' | 'args'>,
): Promise<PageChecksums | null> {
  const findings: string[] = []
  const counts = new Map<string, number>()
  try {
    await runProgram({
      ...program,
      program: programPath(installation, 'pg_checksums'),
      args: ['--check', `--pgdata=${dataDirectory}`],
      onStderrLine: (line) => {
        const [, finding] = /checksum verification failed in file "(.*)$/.exec(line) ?? []
        if (finding !== undefined && findings.length < maxFindings)
          findings.push(finding.replace(`${dataDirectory}/`, '').replace('"', ''))
      },
      onStdoutLine: (line) => {
        const [, name, count] = /^(Blocks scanned|Bad checksums): +(\d+)/.exec(line) ?? []
        if (name !== undefined) counts.set(name, Number(count))
      },
    })
  } catch (thrown) {
    const error = withCause(thrown)
    const isOff = error instanceof LifeboatError && /checksums are not enabled/.test(error.message)
    if (isOff) return null
    // It ends with a status of 1 for bad pages as for all else, and only at its end prints how many there were.
    if ((counts.get('Bad checksums') ?? 0) === 0) throw error
  }
  return { blocks: counts.get('Blocks scanned') ?? 0, bad: counts.get('Bad checksums') ?? 0, findings }
}
