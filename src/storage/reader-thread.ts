import { closeSync, lstatSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { isMissing, shrunk } from './failures.ts'
import { objectInfo } from './object-info.ts'
import { openFile, readFile } from './open-file.ts'
import { type Answer, type Found, type Opened, type Request, toFault } from './reader-messages.ts'

/** Objects up to this size are read whole; of larger ones the open file is handed over. */
const wholeBytes = 256 * 1024

/** Answers sent together: several, since each message costs a wake-up; not all, so that both threads have work. */
const batchAnswers = 32

function answer({ id, what, root, key }: Request): Answer {
  try {
    return { id, found: what === 'entry' ? lookAtName(root, key) : lookAtFile(what, root, key) }
  } catch (error) {
    return { id, fault: toFault(error) }
  }
}

function lookAtName(root: string, key: string): Found | null {
  try {
    const stats = lstatSync(join(root, key))
    return stats.isFile() ? { info: objectInfo(key, stats) } : null
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

function lookAtFile(what: 'head' | 'body', root: string, key: string): Found | Opened | null {
  const file = openFile(root, key)
  if (file === null) return null
  const info = objectInfo(key, file.stats)
  if (what === 'body' && info.bytes > wholeBytes) return { info, body: file.descriptor }
  try {
    if (what === 'head') return { info }
    const body = readFile(file)
    if (body === null) throw shrunk(key)
    return { info, body }
  } finally {
    closeSync(file.descriptor)
  }
}

/** Given away with the answer, not copied. */
function memoryOf(one: Answer): ArrayBuffer[] {
  const given = 'found' in one && one.found !== null && 'body' in one.found ? one.found.body : null
  return given instanceof Uint8Array ? [given.buffer] : []
}

parentPort?.on('message', (requests: readonly Request[]) => {
  for (let from = 0; from < requests.length; from += batchAnswers) {
    const answers = requests.slice(from, from + batchAnswers).map(answer)
    parentPort?.postMessage(answers, answers.flatMap(memoryOf))
  }
})
