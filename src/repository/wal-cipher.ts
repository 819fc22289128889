import type { Readable } from 'node:stream'

/** Encrypts WAL before it is stored, and decrypts what was read. */
export interface WalCipher {
  /** Whether what is stored from now on is to be encrypted. */
  readonly seals: boolean
  /** Whether there is a key to decrypt with; it may be another one's. */
  readonly opens: boolean
  /** @throws LifeboatError `config-invalid`, `program-missing`, `program-failed` */
  seal(bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
  /** What it gives fails as `seal` does, or with what the source fails with. */
  sealStream(source: Readable, signal: AbortSignal): AsyncIterable<Buffer>
  /**
   * Decrypts; takes the source over. What it gives fails with `identity-missing`, `identity-mismatch`, `artifact-invalid` for what
   * is torn or altered, as `seal` does, or with what the source fails with.
   */
  open(source: Readable, signal: AbortSignal): AsyncIterable<Buffer>
}
