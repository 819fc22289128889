import { access } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import { conninfo } from '../postgres/conninfo.ts'
import { withCause } from '../postgres/failures.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import { assertSucceeded, type RunningProgram, startProgram } from '../postgres/programs.ts'

const program = 'pg_receivewal'

export interface ReceiverOptions {
  readonly installation: Installation
  readonly source: ConnectionSource
  readonly serverMajor: number
  /** For the password file. */
  readonly workFolder: string
  readonly directory: string
  readonly slot: string
  readonly synchronous: boolean
  readonly signal: AbortSignal
}

/** A network that is gone is noticed within a minute: the receiver itself would wait for hours. */
const keepalives = 'keepalives_idle=20 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=60000'

/** How often the receiver tells how far it is, where it does not at each write; seconds. */
const statusSeconds = 5

/**
 * Starts pg_receivewal, which goes on until it fails or is ended.
 * Source: https://www.postgresql.org/docs/current/app-pgreceivewal.html
 */
export async function startReceiver(options: ReceiverOptions): Promise<RunningProgram> {
  const { installation, source, slot } = options
  const running = await startProgram({
    program: programPath(installation, program),
    args: [
      `--directory=${options.directory}`,
      `--slot=${slot}`,
      '--no-loop', // it would try again for ever, and say so to nobody
      '--no-password',
      `--status-interval=${statusSeconds}`,
      ...(options.synchronous ? ['--synchronous'] : []),
      `--dbname=${conninfo({ ...source, database: 'replication' })} ${keepalives}`,
    ],
    env: await clientEnvironment(options),
    signal: options.signal,
  })
  running.stdout.resume()
  return running
}

/** What ended a receiver. */
export async function endOf(running: RunningProgram): Promise<unknown> {
  const exit = await running.exited
  try {
    assertSucceeded(program, exit)
    return new LifeboatError('program-failed', `${program} ended by itself`)
  } catch (error) {
    const cause = withCause(error)
    if (!(cause instanceof LifeboatError) || cause.code !== 'disk-full') return cause
    return new LifeboatError(cause.code, cause.message, {
      hint: 'free some space where wal.archive is: the server keeps the WAL until then',
      cause,
    })
  }
}

/**
 * The receiver that may receive from a server of this major version: its own, or the lowest newer one.
 *
 * @throws LifeboatError `program-missing`, `client-too-old`
 */
export async function chooseReceiver(
  installations: readonly Installation[],
  serverMajor: number,
): Promise<Installation> {
  const there: Installation[] = []
  for (const one of installations) {
    await access(programPath(one, program)).then(
      () => there.push(one),
      () => {},
    )
  }
  const sorted = there.toSorted((a, b) => a.major - b.major)
  const found = sorted.find(({ major }) => major >= serverMajor)
  if (found !== undefined) return found
  const hint = `install postgresql-client-${serverMajor}, or set postgres.binDir to its directory`
  const newest = sorted.at(-1)
  if (newest === undefined) throw new LifeboatError('program-missing', `no ${program} was found`, { hint })
  throw new LifeboatError(
    'client-too-old',
    `the server is PostgreSQL ${serverMajor}, but the newest ${program} here is ${newest.version}`,
    { hint },
  )
}
