import { chmod, chown, copyFile, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { type ErrorCode, errorCodes, LifeboatError } from '../domain/errors.ts'
import { fetchWal } from '../fetch/fetch-wal.ts'
import { incomingDirectory, programsDirectory, restoreCommand, restoreProgram } from '../postgres/archiving.ts'
import type { OsUser } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import { VerdictError } from './level-recorder.ts'
import type { ReplayPlan } from './replay-plan.ts'
import { diskFailure } from './work-folder.ts'

export interface ReplayWalOptions {
  readonly repository: Repository
  readonly systemIdentifier: string
  readonly plan: ReplayPlan
  /** Made by the caller; the scratch server can enter it. */
  readonly folder: string
  /** Who runs the scratch server; null: we do. */
  readonly osUser: OsUser | null
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly onFile: (done: number, total: number) => void
}

/** One that says nothing for so long counts as one that cannot be read, milliseconds. */
const patienceMs = 60_000

/** At once: a file is decompressed and hashed in threads beside ours. */
const parallel = 2

/**
 * Brings the WAL into the work folder, since the scratch server sees no repository, and gives the restore_command that
 * takes it from there.
 *
 * @throws VerdictError `fail` with `wal-missing` or `wal-invalid` for WAL without which the backup cannot be used, and
 * `inconclusive` for what comes after it; LifeboatError `storage-failed`, `disk-full`
 */
export async function fetchReplayWal(options: ReplayWalOptions): Promise<string> {
  const { folder, plan, osUser } = options
  const [archive, programs] = [join(folder, 'wal'), join(folder, 'programs')]
  try {
    await mkdir(join(archive, incomingDirectory), { recursive: true, mode: 0o700 })
    await mkdir(programs, { mode: 0o755 })
    await chmod(programs, 0o755)
    await copyFile(join(programsDirectory, restoreProgram), join(programs, restoreProgram))
    await chmod(join(programs, restoreProgram), 0o755)
  } catch (error) {
    throw diskFailure(error, 'cannot make a place for the WAL')
  }
  const files = [...plan.needed, ...plan.beyond]
  const needed = new Set(plan.needed)
  let [next, done] = [0, 0]
  const failing = new AbortController()
  const signal = AbortSignal.any([options.signal, failing.signal])
  const work = async () => {
    for (let name = files[next++]; name !== undefined && !signal.aborted; name = files[next++]) {
      await fetchFile({ ...options, signal }, archive, name, needed.has(name))
      done += 1
      options.onFile(done, files.length)
    }
  }
  const ended = await Promise.allSettled(
    Array.from({ length: parallel }, () =>
      work().catch((error: unknown) => {
        failing.abort(error)
        throw error
      }),
    ),
  )
  options.signal.throwIfAborted()
  if (failing.signal.aborted) throw failing.signal.reason
  for (const one of ended) if (one.status === 'rejected') throw one.reason
  if (osUser !== null) await handOver(archive, osUser)
  return restoreCommand(programs, archive)
}

async function fetchFile(
  { repository, systemIdentifier, clock, signal }: ReplayWalOptions,
  archive: string,
  name: string,
  isNeeded: boolean,
): Promise<void> {
  const fetch = { repositories: [repository], systemIdentifier, hashes: [], missingIsEnd: false }
  const verdict = isNeeded ? 'fail' : 'inconclusive'
  const what = isNeeded ? 'which the backup needs' : 'on the way to that moment'
  try {
    if (await fetchWal(name, join(archive, name), { ...fetch, clock, signal, patienceMs })) return
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof LifeboatError)) throw error
    if (error.code === 'object-missing') throw missing(verdict, name, what)
    if (error.code !== 'wal-invalid' && error.code !== 'conflict') throw error
    const unknown = unknownOf(error)
    if (unknown !== null) throw unknown
    throw new VerdictError(verdict, 'wal-invalid', 'wal', `${name}, ${what}: ${error.message}`)
  }
  throw missing(verdict, name, what)
}

/** Beside a copy that is damaged there may be one that could not be read here: nobody knows whether the file is lost. */
function unknownOf({ message, hint, details }: LifeboatError): LifeboatError | null {
  const codes: readonly unknown[] = Array.isArray(details?.codes) ? details.codes : []
  const isError = (code: unknown): code is ErrorCode => typeof code === 'string' && code in errorCodes
  const code = codes.filter(isError).find((one) => one !== 'wal-invalid' && one !== 'conflict')
  return code === undefined ? null : new LifeboatError(code, message, hint === undefined ? {} : { hint })
}

function missing(verdict: 'fail' | 'inconclusive', name: string, what: string): VerdictError {
  return new VerdictError(verdict, 'wal-missing', 'wal', `${name}, ${what}, is not stored here`)
}

async function handOver(archive: string, { uid, gid }: OsUser): Promise<void> {
  for (const name of await readdir(archive)) await chown(join(archive, name), uid, gid)
  await chown(archive, uid, gid)
}
