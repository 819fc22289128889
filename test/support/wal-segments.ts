import { open, utimes } from 'node:fs/promises'
import { join } from 'node:path'

export const systemIdentifier = '7712249072184253684'

export interface SegmentFields {
  /** Bytes of a segment of its cluster: 1 MiB unless told. */
  readonly size?: number
  /** The file's own. */
  readonly length?: number
  readonly system?: string
  /** The number of the segment that the header tells of. */
  readonly place?: number
  readonly at?: Date
}

/** The first 40 bytes of a segment. */
export function segmentHeader(name: string, fields: SegmentFields = {}): Buffer {
  const { size = 1_048_576, system = systemIdentifier, place } = fields
  const head = Buffer.alloc(40)
  head.writeUInt32LE(0x7_d110, 0)
  head.writeUInt32LE(Number.parseInt(name.slice(0, 8), 16), 4)
  const number = Number.parseInt(name.slice(8, 16), 16) * (2 ** 32 / size) + Number.parseInt(name.slice(16, 24), 16)
  head.writeBigUInt64LE(BigInt(place ?? number) * BigInt(size), 8)
  head.writeBigUInt64LE(BigInt(system), 24)
  head.writeUInt32LE(size, 32)
  head.writeUInt32LE(8192, 36)
  return head
}

/** Writes a sparse file with the header of a segment. */
export async function putSegment(directory: string, name: string, fields: SegmentFields = {}): Promise<void> {
  const { size = 1_048_576, at } = fields
  const path = join(directory, name)
  const handle = await open(path, 'w')
  await handle.write(segmentHeader(name, fields))
  await handle.truncate(fields.length ?? size)
  await handle.close()
  if (at !== undefined) await utimes(path, at, at)
}
