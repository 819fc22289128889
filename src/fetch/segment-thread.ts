import { parentPort } from 'node:worker_threads'
import { toFailure } from '../domain/errors.ts'
import type { NamedSegment } from './segment-check.ts'
import { writeWhole } from './segment-whole.ts'
import type { Written } from './segment-writers.ts'

/** What a thread is asked for, see `writeWhole`. */
export interface WriteQuestion {
  readonly object: NamedSegment
  readonly stored: Uint8Array
  readonly path: string
}

parentPort?.on('message', ({ object, stored, path }: WriteQuestion) => {
  parentPort?.postMessage(answerTo(object, stored, path))
})

function answerTo(object: NamedSegment, stored: Uint8Array, path: string): Written {
  try {
    return { size: writeWhole(object, stored, path) }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return { failure: toFailure(error), systemCode: typeof code === 'string' && /^E[A-Z]+$/.test(code) ? code : null }
  }
}
