import type { Readable } from 'node:stream'
import { Worker } from 'node:worker_threads'
import { encryptedSuffix } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { GrowthComparison } from '../domain/growth-tables.ts'
import type { EncryptionConfig } from '../encryption/age.ts'
import { decryptBytes } from '../encryption/filter.ts'
import type { Repository } from '../repository/repository.ts'
import { scriptUrl } from '../scripts.ts'

/** Compares the fingerprint of one backup with those of others. To be asked for one thing after the other. */
export interface GrowthReader {
  /** Reads the one that is compared with the others, later; false when the backup has none. */
  hold(backupId: string): Promise<boolean>
  /** What has changed from this backup to the one that is held; null when it has none. */
  compare(backupId: string): Promise<GrowthComparison | null>
  end(): Promise<void>
}

/** What the thread is asked: the chunks of a fingerprint, and what to do with it. */
export interface Question {
  readonly what: 'hold' | 'compare'
  readonly chunks: readonly Uint8Array[]
}

/** `result` is null when there was only something to hold. */
export type Answer = { readonly result: GrowthComparison | null } | { readonly problem: string }

/** A fingerprint of 100,000 tables has some 20 MiB. A larger one than this counts as none. */
const mostBytes = 64 * 1024 * 1024

/**
 * Reads fingerprints unchecked against their hashes: good enough to explain a size, never to prove anything. They are parsed
 * and compared in a thread of their own, begun with the first one: 50,000 tables take a quarter of a second.
 *
 * Its methods fail with what the storage says, with `artifact-invalid` for what is no fingerprint, and with the signal's reason.
 */
export function readGrowth(
  repositories: readonly { readonly repository: Repository }[],
  name: string,
  { encryption, signal }: { readonly encryption: EncryptionConfig; readonly signal: AbortSignal },
): GrowthReader {
  const repository = repositories.find((one) => one.repository.name === name)?.repository
  let thread: Thread | null = null

  async function ask(what: Question['what'], backupId: string): Promise<{ result: GrowthComparison | null } | null> {
    const chunks = repository === undefined ? null : await read(repository, backupId)
    if (chunks === null) return null
    thread ??= startThread()
    const answer = await thread.ask({ what, chunks }, signal)
    if ('result' in answer) return answer
    throw new LifeboatError('artifact-invalid', `the fingerprint of ${backupId} cannot be used: ${answer.problem}`)
  }

  /** Null where there is none, or none that can be opened here. */
  async function read(from: Repository, backupId: string): Promise<Uint8Array<ArrayBuffer>[] | null> {
    const name = 'fingerprint.json'
    const info = await from.headArtifact(backupId, name, { signal })
    if (info !== null)
      return info.bytes > mostBytes ? null : chunksOf(await from.readArtifact(backupId, name, { signal }))
    if (encryption.identityFile === null) return null
    const hidden = `${name}${encryptedSuffix}`
    const found = await from.headArtifact(backupId, hidden, { signal })
    if (found === null || found.bytes > mostBytes) return null
    const stored = await from.readArtifact(backupId, hidden, { signal })
    return [new Uint8Array(await decryptBytes(encryption, stored, { mostBytes, signal }))]
  }

  return {
    hold: async (backupId) => (await ask('hold', backupId)) !== null,
    compare: async (backupId) => (await ask('compare', backupId))?.result ?? null,
    end: async () => {
      await thread?.end()
      thread = null
    },
  }
}

/** Each in memory of its own, which can be given away. */
async function chunksOf(bytes: Readable): Promise<Uint8Array<ArrayBuffer>[]> {
  const chunks: Uint8Array<ArrayBuffer>[] = []
  for await (const chunk of bytes) chunks.push(new Uint8Array(chunk as Buffer))
  return chunks
}

interface Thread {
  ask(question: { what: Question['what']; chunks: Uint8Array<ArrayBuffer>[] }, signal: AbortSignal): Promise<Answer>
  end(): Promise<void>
}

function startThread(): Thread {
  const worker = new Worker(scriptUrl('jobs/growth-thread'), {
    name: 'lifeboat-growth',
    // No limit of its own: V8 does not end a thread that reaches it while parsing, but the process.
    execArgv: [],
    env: {},
  })
  const ended = new Promise<never>((_, reject) => {
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`the thread ended with exit code ${code}`)))
  })
  ended.catch(() => {}) // told to whoever asks
  return {
    async ask(question, signal) {
      signal.throwIfAborted()
      const [answered, stopped] = [Promise.withResolvers<Answer>(), Promise.withResolvers<never>()]
      const stop = () => stopped.reject(signal.reason)
      signal.addEventListener('abort', stop, { once: true })
      worker.once('message', answered.resolve)
      worker.postMessage(
        question,
        question.chunks.map(({ buffer }) => buffer),
      )
      try {
        return await Promise.race([answered.promise, ended, stopped.promise])
      } finally {
        signal.removeEventListener('abort', stop)
        worker.off('message', answered.resolve)
      }
    },
    end: async () => {
      await worker.terminate()
    },
  }
}
