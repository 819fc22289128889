import type { Readable } from 'node:stream'
import type { EncryptionConfig } from '../config/validated.ts'
import { assertSucceeded, type ProgramOptions, startProgram } from '../postgres/programs.ts'
import { ageFailure, decryptStage, encryptStage, isEncrypting } from './age.ts'
import { encryptBytes } from './filter.ts'

/** Encrypts and decrypts what is too small for a pipe of its own, as the segments of the WAL. */
export class Cipher {
  readonly seals: boolean
  readonly opens: boolean
  readonly #config: EncryptionConfig

  constructor(config: EncryptionConfig) {
    this.#config = config
    this.seals = isEncrypting(config)
    this.opens = config.identityFile !== null
  }

  seal(bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return encryptBytes(this.#config, bytes, signal)
  }

  sealStream(source: Readable, signal: AbortSignal): AsyncIterable<Buffer> {
    return filtered(() => encryptStage(this.#config), source, signal)
  }

  open(source: Readable, signal: AbortSignal): AsyncIterable<Buffer> {
    return filtered(() => decryptStage(this.#config), source, signal)
  }
}

/** Has a stream go through age. It ends only when age has, well; whoever wants no more of it ends age. */
async function* filtered(
  stage: () => Promise<ProgramOptions | null>,
  source: Readable,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void> {
  const stop = new AbortController()
  try {
    const options = await stage()
    if (options === null) throw new Error('unreachable: nothing is to be encrypted')
    const ends = AbortSignal.any([signal, stop.signal])
    const running = await startProgram({ ...options, stdin: source, signal: ends })
    try {
      for await (const chunk of running.stdout as AsyncIterable<Buffer>) yield chunk
      const exit = await running.exited
      signal.throwIfAborted()
      if (exit.inputError !== undefined) throw exit.inputError
      assertSucceeded('age', exit)
    } finally {
      stop.abort()
      await running.exited
    }
  } catch (error) {
    signal.throwIfAborted()
    throw ageFailure(error)
  } finally {
    source.on('error', () => {}).destroy()
  }
}
