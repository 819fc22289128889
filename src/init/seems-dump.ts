import { constants, gunzipSync, zstdDecompressSync } from 'node:zlib'
import { compressionOf, formatOf } from '../domain/external.ts'
import { openDump } from '../external/open-dump.ts'

/** Of compressed files, so much of the beginning is decompressed. */
const sampleBytes = 8192

/** Whether the beginning of a file is that of a dump. It may be broken all the same. */
export async function seemsDump(path: string): Promise<'yes' | 'no' | 'unknown'> {
  try {
    const opened = await openDump(path)
    if (opened.kind === 'other') return 'no'
    if (opened.kind === 'directory') return opened.members.some(({ name }) => name === 'toc.dat') ? 'yes' : 'no'
    const head = decompressed(opened.head)
    return head === null ? 'unknown' : formatOf(head) === null ? 'no' : 'yes'
  } catch {
    return 'unknown' // this OS user may not read it, for example
  }
}

function decompressed(head: Buffer): Buffer | null {
  const compression = compressionOf(head)
  if (compression === 'none') return head
  try {
    const sample = head.subarray(0, compression === 'zstd' ? undefined : sampleBytes)
    const text =
      compression === 'gzip'
        ? gunzipSync(sample, { finishFlush: constants.Z_SYNC_FLUSH })
        : zstdDecompressSync(sample, { finishFlush: constants.ZSTD_e_flush, maxOutputLength: 16 * 1024 * 1024 })
    return text.length === 0 ? null : text
  } catch {
    return null
  }
}
