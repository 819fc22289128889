import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { LifeboatError } from '../domain/errors.ts'
import type { FileFacts } from '../domain/external-file.ts'

/** All files and directories in one directory; links, devices, FIFOs and sockets are left out. */
export interface Scan {
  readonly device: number
  readonly inode: number
  readonly names: readonly string[]
  /** For each name: 1 for a directory, bytes, times of modification and change in milliseconds, device, inode. */
  readonly facts: Float64Array
}

export const factsPerName = 6

/**
 * Lists a directory and looks at everything in it, in a thread of its own that ends afterwards: a directory of a million
 * files, or on a network disk that hangs, holds up nobody else.
 *
 * @throws LifeboatError `storage-failed` when it cannot be read; the signal's reason
 */
export async function scanDirectory(directory: string, signal: AbortSignal): Promise<Scan> {
  signal.throwIfAborted()
  const worker = new Worker(new URL(`./scan-thread${extname(import.meta.filename)}`, import.meta.url), {
    name: 'lifeboat-scan',
    workerData: { directory },
    execArgv: [],
    env: {},
  })
  const stopped = Promise.withResolvers<never>()
  const stop = () => stopped.reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    const answer = await Promise.race([answerOf(worker), stopped.promise])
    if ('result' in answer) return answer.result
    throw unreadable(directory, answer)
  } finally {
    signal.removeEventListener('abort', stop)
    void worker.terminate()
  }
}

/** The facts of one name of a scan. */
export function factsAt({ facts }: Scan, index: number): FileFacts {
  const [isDirectory = 0, bytes = 0, modified = 0, changed = 0, device = 0, inode = 0] = facts.subarray(
    index * factsPerName,
    (index + 1) * factsPerName,
  )
  return { isDirectory: isDirectory === 1, bytes, modified, changed, device, inode }
}

type Answer = { readonly result: Scan } | { readonly code: string; readonly message: string }

function answerOf(worker: Worker): Promise<Answer> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) =>
      reject(new LifeboatError('storage-failed', `the thread that scans ended with ${code}`)),
    )
  })
}

function unreadable(directory: string, { code, message }: { code: string; message: string }): LifeboatError {
  const hint =
    code === 'ENOENT' || code === 'ENOTDIR'
      ? 'Correct watch.directory, or mount what belongs there.'
      : 'Let the OS user of lifeboat read and enter it.'
  return new LifeboatError('storage-failed', `cannot read the watched directory ${directory}: ${message}`, { hint })
}
