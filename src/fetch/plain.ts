import { LifeboatError } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'
import type { StoredWalObject } from '../repository/wal.ts'

/** A history has a line of some sixty bytes for each timeline, a label some three hundred in all. */
const mostBytes = 16 * 1024 * 1024

/** Reads a history or label. */
export async function readPlain(
  { wal }: Pick<Repository, 'wal'>,
  object: Pick<StoredWalObject, 'info' | 'isEncrypted'>,
  signal: AbortSignal,
): Promise<Buffer> {
  if (object.info.bytes > mostBytes)
    throw new LifeboatError('wal-invalid', `${object.info.key} has ${object.info.bytes} bytes`)
  const chunks: Buffer[] = []
  for await (const chunk of await wal.read(object, { signal })) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
