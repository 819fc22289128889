import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'

/** Fewer, larger writes: hashing into a file goes a quarter faster than with the 64 KiB that streams hand over. */
const bufferBytes = 1024 * 1024

/** Written bytes after which they are sent to the disk in the background, so that the last sync is not one long stall. */
const syncEveryBytes = 64 * 1024 * 1024

/** Writes the whole body to the file and syncs it. Destroys the body when writing fails. */
export async function writeFile(handle: FileHandle, body: Readable | Uint8Array): Promise<void> {
  const file = new SyncingFile(handle)
  try {
    if (body instanceof Uint8Array) {
      await file.write(body)
    } else {
      await writeStream(file, body)
    }
    await file.sync()
  } finally {
    await file.settle()
  }
}

/** Fills one buffer while the other is being written: the source is not held up by the disk until both are full. */
async function writeStream(file: SyncingFile, body: Readable): Promise<void> {
  let filling = Buffer.allocUnsafeSlow(bufferBytes)
  let spare = Buffer.allocUnsafeSlow(bufferBytes)
  let filled = 0
  let writing: Promise<void> = Promise.resolve()
  const flush = async (): Promise<void> => {
    await writing
    const full = filling.subarray(0, filled)
    filling = spare
    spare = Buffer.from(full.buffer)
    filled = 0
    writing = file.write(full)
    // Seen again by the next `await writing`. Until then the source may be silent for long: end it now.
    writing.catch((error: unknown) => body.destroy(error instanceof Error ? error : new Error(String(error))))
  }
  try {
    for await (const chunk of body) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      if (!(bytes instanceof Uint8Array)) throw new LifeboatError('usage-invalid', 'a body must be a stream of bytes')
      for (let from = 0; from < bytes.length; ) {
        const taken = Math.min(bytes.length - from, bufferBytes - filled)
        filling.set(bytes.subarray(from, from + taken), filled)
        filled += taken
        from += taken
        if (filled === bufferBytes) await flush()
      }
    }
    if (filled > 0) await flush()
  } finally {
    // The caller closes the file next: a write still under way could then go to whatever gets that descriptor.
    await writing
  }
}

/** A file that is sent to the disk while it grows. */
class SyncingFile {
  readonly #handle: FileHandle
  #unsynced = 0
  #syncing: Promise<void> | null = null
  #failure: { readonly error: unknown } | null = null

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const { bytesWritten } = await this.#handle.write(bytes, from, bytes.length - from)
      from += bytesWritten
    }
    this.#unsynced += bytes.length
    if (this.#unsynced < syncEveryBytes || this.#syncing !== null) return
    this.#unsynced = 0
    this.#syncing = this.#handle
      .datasync()
      .catch((error: unknown) => {
        this.#failure = { error }
      })
      .finally(() => {
        this.#syncing = null
      })
  }

  async sync(): Promise<void> {
    await this.#syncing
    // The kernel reports a failed write-back once: the sync below would succeed, and the bytes would be lost.
    if (this.#failure !== null) throw this.#failure.error
    await this.#handle.sync()
  }

  /** Waits for what still runs in the background, so that the file may be closed. */
  async settle(): Promise<void> {
    await this.#syncing
  }
}
