import { parentPort } from 'node:worker_threads'
import type { Fingerprint } from '../domain/fingerprint.ts'
import { compareGrowth } from '../domain/growth-tables.ts'
import { parseFingerprint } from './fingerprint-artifact.ts'
import type { Answer, Question } from './growth-reader.ts'

let held: Fingerprint | null = null

function answer({ what, chunks }: Question): Answer {
  try {
    const fingerprint = parseFingerprint(new Map([['fingerprint.json', Buffer.concat(chunks).toString('utf8')]]))
    if (what === 'hold') held = fingerprint
    else if (held !== null && fingerprint !== null) return { result: compareGrowth(fingerprint, held) }
    return { result: null }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}

parentPort?.on('message', (question: Question) => parentPort?.postMessage(answer(question)))
