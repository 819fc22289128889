import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { WalInterval } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { formatLsn, parseLsn } from '../domain/lsn.ts'

/** What PostgreSQL's own manifest says besides the files. */
export interface BackupManifestFacts {
  /** From the oldest on; the last one ends where the backup does. */
  readonly wal: readonly WalInterval[]
}

const tailBytes = 64 * 1024

/**
 * Reads the end of a backup_manifest, and its checksum over all of it; the list of files, which can be as long as hundreds of
 * megabytes, is not kept.
 *
 * Source: https://www.postgresql.org/docs/current/backup-manifest-format.html
 *
 * @throws LifeboatError `artifact-invalid`
 */
export async function readBackupManifest(path: string): Promise<BackupManifestFacts> {
  const handle = await open(path)
  let tail: string
  let size: number
  try {
    size = (await handle.stat()).size
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(tailBytes),
      0,
      tailBytes,
      Math.max(0, size - tailBytes),
    )
    tail = buffer.toString('latin1', 0, bytesRead)
  } finally {
    await handle.close()
  }
  const [last, checksum] = /^"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$/m.exec(tail) ?? []
  const ranges = /^"WAL-Ranges": (\[[^\]]*\])/m.exec(tail)?.[1]
  if (last === undefined || ranges === undefined) throw invalid('it has no end')
  const hash = createHash('sha256')
  const end = size - last.length - 1
  if (end < 0) throw invalid('it has no beginning')
  for await (const chunk of createReadStream(path, { end })) hash.update(chunk as Buffer)
  if (hash.digest('hex') !== checksum) throw invalid('its checksum is not that of its contents')
  return { wal: walRanges(ranges) }
}

function walRanges(text: string): readonly WalInterval[] {
  const ranges = (JSON.parse(text) as readonly Record<string, unknown>[]).map((range) => ({
    timeline: Number(range.Timeline),
    start: parseLsn(String(range['Start-LSN'])),
    end: parseLsn(String(range['End-LSN'])),
  }))
  const known = ranges.flatMap(({ timeline, start, end }) =>
    start === null || end === null || !Number.isInteger(timeline) ? [] : [{ timeline, start, end }],
  )
  if (known.length === 0 || known.length < ranges.length) throw invalid('it does not say which WAL is needed')
  return known
    .toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : a.timeline - b.timeline))
    .map(({ timeline, start, end }) => ({ timeline, start: formatLsn(start), end: formatLsn(end) }))
}

function invalid(why: string): LifeboatError {
  return new LifeboatError('artifact-invalid', `the backup_manifest of PostgreSQL cannot be used: ${why}`)
}
