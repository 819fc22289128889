import { pipeline, Writable } from 'node:stream'
import { createZstdDecompress } from 'node:zlib'
import { isStorageFailure, LifeboatError } from '../domain/errors.ts'
import { parseHistory, type TimelineHistory } from '../domain/timeline.ts'
import type { Stoppable } from './backup-folder.ts'
import type { StoredWalObject, WalStore } from './wal.ts'

/** The longest history is one line for each timeline that there ever was; what is larger is none. */
const mostHistoryBytes = 4 * 1024 * 1024

/**
 * The first bytes of what PostgreSQL wrote, from a stored segment or partial; little more than these is read. Fewer where
 * there are no more, or they cannot be decompressed; none of one that cannot be decrypted here.
 *
 * @throws LifeboatError `object-missing`, `storage-failed`, `cancelled`
 */
export async function readWalHead(
  wal: Pick<WalStore, 'read' | 'isReadable'>,
  object: StoredWalObject,
  bytes: number,
  options: Stoppable = {},
): Promise<Buffer> {
  if (!wal.isReadable(object)) return Buffer.alloc(0)
  const chunks: Buffer[] = []
  let size = 0
  const body = await wal.read(object, options)
  const enough = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk)
      size += chunk.length
      done(size >= bytes ? new Error('enough was read') : null)
    },
  })
  await new Promise<void>((resolve, reject) => {
    pipeline(body, createZstdDecompress(), enough, (error) => {
      if (error instanceof LifeboatError && !(object.isEncrypted && isOfEncryption(error))) reject(error)
      else resolve()
    })
  })
  options.signal?.throwIfAborted()
  return Buffer.concat(chunks).subarray(0, bytes)
}

/** No key that fits, no age, or nothing that it can decrypt: whatever it is, the storage is in order. */
function isOfEncryption({ code }: LifeboatError): boolean {
  return !(isStorageFailure(code) || code === 'object-missing' || code === 'cancelled' || code === 'timed-out')
}

/** @throws LifeboatError `wal-invalid` when it is not a history of this timeline, and what the storage says */
export async function readStoredHistory(
  wal: Pick<WalStore, 'read'>,
  object: StoredWalObject,
  options: Stoppable = {},
): Promise<TimelineHistory> {
  if (object.info.bytes > mostHistoryBytes)
    throw new LifeboatError('wal-invalid', `${object.name} is too long for a timeline history`, {
      hint: 'fetch it again from the pg_wal of the server',
    })
  const chunks: Buffer[] = []
  for await (const chunk of await wal.read(object, options)) chunks.push(chunk as Buffer)
  return parseHistory(Number.parseInt(object.name, 16), Buffer.concat(chunks).toString('utf8'))
}
