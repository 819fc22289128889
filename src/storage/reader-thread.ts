import { closeSync, lstatSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { isMissing, shrunk } from './failures.ts'
import { objectInfo } from './object-info.ts'
import { openFile, readFile } from './open-file.ts'
import { type Answer, type Answered, type Found, type Opened, type Request, toFault } from './reader-messages.ts'
import type { ExpectedFiles, FileDeviation } from './storage.ts'

/** Objects up to this size are read whole; of larger ones the open file is handed over. */
const wholeBytes = 256 * 1024

/** Answers sent together: several, since each message costs a wake-up; not all, so that both threads have work. */
const batchAnswers = 32

function answer(request: Request): Answer {
  const { id } = request
  try {
    return { id, found: find(request) }
  } catch (error) {
    return { id, fault: toFault(error) }
  }
}

function find(request: Request): Answered {
  const { root } = request
  if (request.what === 'compare') return request.folders.flatMap((folder) => deviationsIn(root, folder))
  return request.what === 'entry' ? lookAtName(root, request.key) : lookAtFile(request.what, root, request.key)
}

function deviationsIn(root: string, { folder, names, bytes }: ExpectedFiles): FileDeviation[] {
  const found: FileDeviation[] = []
  for (const [index, name] of names.entries()) {
    const is = lengthOf(join(root, folder, name))
    if (is !== bytes[index]) found.push({ folder, name, is })
  }
  return found
}

function lengthOf(path: string): FileDeviation['is'] {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return 'missing'
  return stats.isFile() ? stats.size : 'no-file'
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
