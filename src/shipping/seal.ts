import { Readable } from 'node:stream'
import type { WalCipher } from '../repository/wal-cipher.ts'
import type { Body } from './readers.ts'

/** What is given to a repository, and whether it is encrypted. */
export interface SealedBody extends Body {
  readonly isEncrypted: boolean
}

/** Encrypts what is compressed, where that is configured. It is encrypted once for all repositories: they hold the same bytes. */
export class Seal {
  readonly #cipher: WalCipher | null
  readonly #sealed = new WeakMap<Uint8Array, Promise<Uint8Array>>()

  constructor(cipher: WalCipher | null) {
    this.#cipher = cipher?.seals ? cipher : null
  }

  /**
   * @param signal of the whole service: a repository that gives up ends nothing for the others
   * @throws LifeboatError what the encryption says
   */
  async bytes(compressed: Uint8Array, signal: AbortSignal): Promise<SealedBody> {
    if (this.#cipher === null) return { body: compressed, bytes: () => compressed.length, isEncrypted: false }
    const sealing = this.#sealed.get(compressed) ?? this.#cipher.seal(compressed, signal)
    this.#sealed.set(compressed, sealing)
    sealing.catch(() => this.#sealed.delete(compressed))
    const body = await sealing
    return { body, bytes: () => body.length, isEncrypted: true }
  }

  /** Of a segment that is too large to be kept, as it is read. */
  async body({ body, bytes }: Body, signal: AbortSignal): Promise<SealedBody> {
    if (body instanceof Uint8Array) return this.bytes(body, signal)
    if (this.#cipher === null) return { body, bytes, isEncrypted: false }
    let count = 0
    const sealed = this.#cipher.sealStream(body, signal)
    const counted = async function* () {
      for await (const chunk of sealed) {
        count += chunk.length
        yield chunk
      }
    }
    return { body: Readable.from(counted(), { objectMode: false }), bytes: () => count, isEncrypted: true }
  }
}
