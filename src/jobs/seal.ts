import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Artifact, Digest } from '../domain/backup.ts'
import { encryptedSuffix } from '../domain/backup.ts'
import { filterThrough } from '../encryption/filter.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import { type Details, detailsName, splitDetails } from '../repository/details.ts'
import type { BackupWriter, ManifestBody } from '../repository/repository.ts'
import { DigestStream } from '../storage/digest.ts'

/** A writer whose artifacts are encrypted on their way, where anything is: under their names and `.age`. */
export interface SealingWriter extends BackupWriter {
  /** For those who have a pipe that it fits into: what has gone through it is put with `putSealed`. Null: nothing is encrypted. */
  readonly encrypt: ProgramOptions | null
  putSealed(name: string, body: Readable, plain: () => Promise<Digest>): Promise<Artifact>
  /** As it is, for people: RESTORE.md. */
  putOpen(name: string, body: Uint8Array): Promise<Artifact>
  /**
   * Puts what the manifest is to keep to itself, once all of the rest is there, and gives what is left of it; and the artifacts
   * that were put for that.
   */
  seal(body: ManifestBody): Promise<{ readonly body: ManifestBody; readonly artifacts: readonly Artifact[] }>
}

/** @param encrypt the stage that encrypts; null: nothing is encrypted */
export function sealing(inner: BackupWriter, encrypt: ProgramOptions | null, signal: AbortSignal): SealingWriter {
  if (encrypt === null)
    return {
      encrypt,
      put: (...args) => inner.put(...args),
      putSealed: (...args) => inner.put(...args),
      putOpen: (...args) => inner.put(...args),
      seal: async (body) => ({ body, artifacts: [] }),
      ...rest(inner),
    }
  const plains: Details['artifacts'][number][] = []
  const putSealed: SealingWriter['putSealed'] = (name, body, plain) =>
    inner.put(`${name}${encryptedSuffix}`, body, async () => {
      const found = await plain()
      plains.push({ name, plain: found })
      return { bytes: found.bytes, sha256: null }
    })
  const put: BackupWriter['put'] = (name, body, plain) => {
    const hashing = new DigestStream()
    const source = body instanceof Readable ? body : Readable.from([body])
    pipeline(source, hashing).catch(() => {}) // it fails with what the source does
    return filterThrough(encrypt, hashing, signal, (output, whole) =>
      putSealed(name, output, async () => {
        await whole()
        const found = await plain?.()
        return found === undefined || found.sha256 === null ? hashing.digest() : { ...found, sha256: found.sha256 }
      }),
    )
  }
  return {
    encrypt,
    put,
    putSealed,
    putOpen: (name, body) => inner.put(name, body),
    seal: async (whole) => {
      const { body, details } = splitDetails(whole, plains)
      return { body, artifacts: [await put(detailsName, Buffer.from(details))] }
    },
    ...rest(inner),
    // What a program writes there by itself is not encrypted, and it may be a disk of others.
    stage: async () => null,
  }
}

function rest(inner: BackupWriter): Pick<BackupWriter, 'stage' | 'adopt' | 'publish' | 'abandon'> {
  return {
    stage: () => inner.stage(),
    adopt: (name, path, stored) => inner.adopt(name, path, stored),
    publish: (body) => inner.publish(body),
    abandon: () => inner.abandon(),
  }
}
