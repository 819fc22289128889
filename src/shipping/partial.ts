import { LifeboatError } from '../domain/errors.ts'
import { parseWalName } from '../domain/wal.ts'
import type { Repository } from '../repository/repository.ts'
import type { WalReaders } from './readers.ts'

/** WAL that streaming has of a segment that is not whole yet. */
export interface Partial {
  readonly systemIdentifier: string
  /** The segment's name. */
  readonly segment: string
  readonly segmentSize: number
  /** Where its WAL ends. */
  readonly endLsn: bigint
  /** From the segment's first byte up to there, or more: what comes after is cut off. */
  readonly bytes: Uint8Array
}

/**
 * Stores what there is of a segment, under a name of its own that is never written again, and removes those that it
 * supersedes. `whole`: the segment is stored whole already, and nothing is to be done.
 *
 * @throws LifeboatError `usage-invalid` when the place is not within the segment; what the storage and the lease say
 */
export async function shipPartial(
  repository: Repository,
  { systemIdentifier, segment, segmentSize, endLsn, bytes }: Partial,
  { readers, level, signal }: { readonly readers: WalReaders; readonly level: number; readonly signal: AbortSignal },
): Promise<'stored' | 'there' | 'whole'> {
  const name = `${segment}.partial.${endLsn.toString(16).toUpperCase().padStart(16, '0')}`
  const file = parseWalName(name, segmentSize)
  const length = Number(endLsn % BigInt(segmentSize))
  if (file?.kind !== 'partial' || bytes.length < length)
    throw new LifeboatError(
      'usage-invalid',
      `there is no part of the segment ${JSON.stringify(segment)} that ends there`,
    )
  const there = await repository.wal.ofSegment(systemIdentifier, segment, { signal })
  if (there.some((one) => one.name === segment)) return 'whole'
  const { sha256, compressed } = await readers.compress(bytes.subarray(0, length), level, signal)
  const stored = { systemIdentifier, name, hash: sha256.slice(0, 12) }
  const result = await repository.wal.put(stored, compressed, { signal })
  for (const object of there) {
    const older = parseWalName(object.name, segmentSize)
    if (older?.kind === 'partial' && older.end !== null && older.end < endLsn)
      await repository.wal.remove(object, { signal })
  }
  return result
}
