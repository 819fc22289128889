import { Worker } from 'node:worker_threads'
import { LifeboatError } from '../domain/errors.ts'
import type { FileFacts } from '../domain/external-file.ts'
import { scriptUrl } from '../scripts.ts'

/** All files and directories in one directory; links, devices, FIFOs and sockets are left out. */
export interface Scan {
  readonly device: number
  readonly inode: number
  readonly names: readonly string[]
  /**
   * For each name: 1 for a directory, bytes, times of modification and change in milliseconds, device, inode, 1 for a name
   * that is not UTF-8.
   */
  readonly facts: Float64Array
}

export const factsPerName = 7

/** What the thread is asked. */
export type Task =
  | { readonly what: 'scan'; readonly directory: string }
  | { readonly what: 'writers'; readonly names: readonly string[] }

/**
 * Lists a directory and looks at everything in it, in a thread of its own that ends afterwards: a directory of a million
 * files, or on a network disk that hangs, holds up nobody else.
 *
 * @throws LifeboatError `storage-failed` when it cannot be read; the signal's reason
 */
export async function scanDirectory(directory: string, signal: AbortSignal): Promise<Scan> {
  const task: Task = { what: 'scan', directory }
  const answer = await inThread<Scan>('scan-thread', task, signal)
  if ('result' in answer) return answer.result
  throw unreadable(directory, answer)
}

/**
 * Which of the named files somebody has open for writing: `device:inode` of files, `/name` of directories with such a file
 * in it. Linux only, and only processes that may be looked at; elsewhere none is seen.
 */
export async function findWriters(names: readonly string[], signal: AbortSignal): Promise<ReadonlySet<string>> {
  const task: Task = { what: 'writers', names }
  const answer = await inThread<readonly string[]>('scan-thread', task, signal)
  return new Set('result' in answer ? answer.result : [])
}

/** What a thread sends back: one message. */
export type Answer<T> = { readonly result: T } | { readonly code: string; readonly message: string }

/**
 * Runs a script of this folder in a thread of its own. Ends only when the thread has: one that hangs in the system cannot
 * be ended, and whoever waits for it has to know that it is still there before starting another.
 */
export async function inThread<T>(script: string, task: object, signal: AbortSignal): Promise<Answer<T>> {
  signal.throwIfAborted()
  const worker = new Worker(scriptUrl(`observe/${script}`), {
    name: 'lifeboat-scan',
    workerData: task,
    execArgv: [],
    env: {},
  })
  const stopped = Promise.withResolvers<never>()
  const stop = () => stopped.reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([answerOf<T>(worker), stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
    await worker.terminate()
  }
}

/** The facts of one name of a scan. */
export function factsAt({ facts }: Scan, index: number): FileFacts {
  const [isDirectory = 0, bytes = 0, modified = 0, changed = 0, device = 0, inode = 0, misnamed = 0] = facts.subarray(
    index * factsPerName,
    (index + 1) * factsPerName,
  )
  const one = { isDirectory: isDirectory === 1, bytes, modified, changed, device, inode }
  return misnamed === 1 ? { ...one, isMisnamed: true } : one
}

function answerOf<T>(worker: Worker): Promise<Answer<T>> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) =>
      reject(new LifeboatError('storage-failed', `the thread that scans ended with ${code}`)),
    )
  })
}

function unreadable(
  directory: string,
  { code, message }: { readonly code: string; readonly message: string },
): LifeboatError {
  const hint =
    code === 'ENOENT' || code === 'ENOTDIR'
      ? 'Correct watch.directory, or mount what belongs there.'
      : 'Let the OS user of lifeboat read and enter it.'
  return new LifeboatError('storage-failed', `cannot read the watched directory ${directory}: ${message}`, { hint })
}
