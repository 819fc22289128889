import { constants } from 'node:fs'
import { access, open, stat } from 'node:fs/promises'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** Looks at the program of each hook, and at the files with the URL and the key of each notification. Nothing is run or sent. */
export async function checkHooks({
  hooks,
  notify,
}: Pick<ValidatedConfig, 'hooks' | 'notify'>): Promise<readonly Finding[]> {
  const programs = hooks.map(({ name, program }) => looked('hooks', async () => [await checkProgram(name, program)]))
  const targets = notify.map(({ name, url, secret }) =>
    looked('hooks', async () => {
      const text = await url()
      await secret?.()
      return [checkTarget(name, text)]
    }),
  )
  return (await Promise.all([...programs, ...targets])).flat()
}

async function checkProgram(name: string, program: string): Promise<Finding> {
  const why = await whyNotRunnable(program)
  if (why !== null)
    return problem('hooks', `${name}: ${program} cannot be run: ${why}`, `install it, or: chmod +x ${program}`)
  const interpreter = await interpreterOf(program)
  const lacking = interpreter === null ? null : await whyNotRunnable(interpreter)
  if (lacking !== null)
    return problem(
      'hooks',
      `${name}: ${program} cannot be run: its first line names ${interpreter}: ${lacking}`,
      'correct that line, or install what it names',
    )
  if (((await stat(program)).mode & 0o022) !== 0)
    return warning(
      'hooks',
      `${name}: other users can change ${program}, which runs as the OS user of lifeboat`,
      `chmod go-w ${program}`,
    )
  return ok('hooks', `${name}: ${program} can be run`)
}

async function whyNotRunnable(path: string): Promise<string | null> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile() ? null : 'it is no file'
  } catch (error) {
    return (error as Error).message
  }
}

/** The kernel reads no more of a first line than this. */
const longestFirstLine = 256

/** What the first line of a script names; null when it is no script, or cannot be read. */
async function interpreterOf(program: string): Promise<string | null> {
  const handle = await open(program).catch(() => null)
  if (handle === null) return null
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(longestFirstLine), 0, longestFirstLine, 0)
    return /^#![ \t]*(\/[^\s]+)/.exec(buffer.toString('latin1', 0, bytesRead))?.[1] ?? null
  } finally {
    await handle.close()
  }
}

/** A URL may be a secret: only its origin is shown. */
function checkTarget(name: string, text: string): Finding {
  if (!URL.canParse(text) || !/^https?:/.test(text))
    return problem('hooks', `${name}: what urlFile holds is no URL`, 'put one line that begins with https:// into it')
  const { origin, protocol, hostname } = new URL(text)
  if (protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname))
    return warning('hooks', `${name}: ${origin} is told of runs without encryption`, 'use https:// if the receiver can')
  return ok('hooks', `${name}: ${origin} is told of runs`)
}
