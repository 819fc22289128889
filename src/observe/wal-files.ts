import { constants } from 'node:fs'
import { lstat, open } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { parseHistory, type TimelineHistory } from '../domain/timeline.ts'
import { walFileKind } from '../domain/wal.ts'

/** What is found under a name of an archive. */
export interface WalFacts {
  readonly isFile: boolean
  readonly isDirectory: boolean
  readonly bytes: number
  /** Of a history that is whole. */
  readonly history: TimelineHistory | null
  /** Why it is not the history that its name says. */
  readonly problem: LifeboatError | null
}

/** Of a file whose name is no UTF-8: looked up by what it looks like, it is not found. */
const misnamed: WalFacts = { isFile: true, isDirectory: false, bytes: 0, history: null, problem: null }

/** Whether this may be how the name of such a file looks. */
export function isMisnamed(name: string): boolean {
  return name.includes('\ufffd')
}

/** Looks at a name that a listing has told: as `lookAtWal`, but that those are there which are not found by their names. */
export async function lookAtListed(directory: string, name: string): Promise<WalFacts | null> {
  return (await lookAtWal(directory, name)) ?? (isMisnamed(name) ? misnamed : null)
}

// Not blocking: a named pipe without a writer would never open.
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** PostgreSQL's own have a line of some fifty bytes for each timeline. */
const longestHistory = 1_048_576

/** Looks at one name; null: nothing is there. Of a history the content is read. Fails when the directory cannot be searched. */
export async function lookAtWal(directory: string, name: string): Promise<WalFacts | null> {
  const path = join(directory, name)
  const stats = await lstat(path).catch((error: unknown) => {
    if (isNothing(error)) return null
    throw error
  })
  if (stats === null) return null
  const isFile = stats.isFile()
  const isDirectory = stats.isDirectory()
  const facts = { isFile, isDirectory, bytes: isFile ? stats.size : 0, history: null, problem: null }
  if (!isFile || walFileKind(name) !== 'history') return facts
  try {
    return { ...facts, history: await readHistory(path, name) }
  } catch (error) {
    if (isNothing(error)) return null
    const { message } = error as Error
    const problem =
      error instanceof LifeboatError
        ? error
        : new LifeboatError('wal-invalid', `the timeline history ${name} cannot be read: ${message}`)
    return { ...facts, problem }
  }
}

/** The first bytes of a plain file, its length, and when it was written; null if there is none. Fails when it cannot be read. */
export async function readHead(
  path: string,
  length: number,
): Promise<{ readonly head: Buffer; readonly bytes: number; readonly modified: number } | null> {
  const handle = await open(path, readFlags).catch((error: unknown) => {
    if (isNothing(error)) return null
    throw error
  })
  if (handle === null) return null
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) return null
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.min(length, stats.size)), { position: 0 })
    return { head: buffer.subarray(0, bytesRead), bytes: stats.size, modified: stats.mtimeMs }
  } finally {
    await handle.close()
  }
}

async function readHistory(path: string, name: string): Promise<TimelineHistory | null> {
  const file = await readHead(path, longestHistory)
  return file === null ? null : parseHistory(Number.parseInt(name, 16), file.head.toString('utf8'))
}

/** Nothing of that name, or a link, a device or socket under it. */
function isNothing(error: unknown): boolean {
  return ['ENOENT', 'ELOOP', 'ENXIO'].includes((error as NodeJS.ErrnoException).code ?? '')
}
