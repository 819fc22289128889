import { LifeboatError } from '../domain/errors.ts'
import { parseWalName } from '../domain/wal.ts'
import { readWalPageHeader } from '../domain/wal-page.ts'
import type { Repository } from '../repository/repository.ts'
import type { WalReaders } from './readers.ts'
import type { Seal } from './seal.ts'

/** WAL that streaming has of a segment that is not whole yet. */
export interface Partial {
  readonly systemIdentifier: string
  /** The segment's name. */
  readonly segment: string
  /** Where its WAL ends. */
  readonly endLsn: bigint
  /** From the segment's first byte up to there. */
  readonly bytes: Uint8Array
}

/**
 * Stores what there is of a segment, under a name of its own that is never written again, and removes those that it
 * supersedes. `whole`: the segment is stored whole already, and nothing is to be done.
 *
 * @throws LifeboatError `usage-invalid` when the bytes are not the beginning of this segment up to this place; what the
 * storage and the lease say
 */
export async function shipPartial(
  repository: Repository,
  { systemIdentifier, segment, endLsn, bytes }: Partial,
  {
    readers,
    seal,
    level,
    signal,
  }: { readonly readers: WalReaders; readonly seal: Seal; readonly level: number; readonly signal: AbortSignal },
): Promise<'stored' | 'there' | 'whole'> {
  const header = readWalPageHeader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const name = `${segment}.partial.${endLsn.toString(16).toUpperCase().padStart(16, '0')}`
  const isPart =
    header !== null &&
    header.systemIdentifier === systemIdentifier &&
    header.address + BigInt(bytes.length) === endLsn &&
    parseWalName(name, header.segmentSize)?.kind === 'partial'
  if (!isPart)
    throw new LifeboatError(
      'usage-invalid',
      `there is no part of the segment ${JSON.stringify(segment)} that ends there`,
    )
  const there = await repository.wal.ofSegment(systemIdentifier, segment, { signal })
  if (there.some((one) => one.name === segment)) return 'whole'
  const { sha256, compressed } = await readers.compress(bytes, level, signal)
  const hash = sha256.slice(0, 12)
  const store = async () => {
    // Of before encryption was configured, or left out.
    if (there.some((one) => one.name === name && one.hash === hash)) return 'there'
    const { body, isEncrypted } = await seal.bytes(compressed, signal)
    return repository.wal.put({ systemIdentifier, name, hash, isEncrypted }, body, { signal })
  }
  const result = await store()
  for (const object of there) {
    const older = parseWalName(object.name, header.segmentSize)
    if (older?.kind === 'partial' && older.end !== null && older.end < endLsn)
      await repository.wal.remove(object, { signal })
  }
  return result
}
