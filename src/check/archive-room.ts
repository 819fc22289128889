import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ValidatedConfig } from '../config/validated.ts'
import { walFileKind } from '../domain/wal.ts'
import { LocalStorage } from '../storage/local.ts'
import type { Capacity } from '../storage/storage.ts'
import { type Finding, looked, problem, warning } from './finding.ts'

/** From so much on the disk of an archive that nothing removes from is told of, and from so much on that of any. */
const fullRatio = 0.8
const nearlyFullRatio = 0.95
/** Somebody removes from an archive that is older than its oldest segment by so much. */
const prunedMs = 86_400_000
/** So many of the first names are looked at: not each need be the oldest of its time. */
const looks = 3

/**
 * Whether the disk of the archive fills up, and whether anything ever removes WAL from it: `wal.keepInArchive`, or
 * somebody else, since the directory is older than its oldest segment.
 */
export async function checkArchiveRoom(
  { wal }: Pick<ValidatedConfig, 'wal'>,
  capacityOf = (path: string): Promise<Capacity> => new LocalStorage({ root: path }).capacity(),
): Promise<readonly Finding[]> {
  const { archive, keepInArchiveMs } = wal
  if (archive === null) return []
  // One that is not there is told of elsewhere.
  const isThere = await stat(archive).catch(() => null)
  if (isThere === null) return []
  return looked('wal', async () => {
    const { freeBytes, totalBytes } = await capacityOf(archive)
    const used = 1 - freeBytes / totalBytes
    const what = `the disk of ${archive} is ${Math.floor(used * 100)} % full`
    if (used >= nearlyFullRatio) {
      const stops = 'when it is full the server keeps all its WAL'
      return [problem('wal', `${what}: ${stops}`, keepInArchiveMs === null ? setKeep : whyKept)]
    }
    if (used < fullRatio || keepInArchiveMs !== null || (await isPruned(archive))) return []
    return [warning('wal', `${what}, and nothing removes WAL from it: wal.keepInArchive is not set`, setKeep)]
  })
}

const setKeep = 'set wal.keepInArchive (2d, say): what every repository has is then removed from the archive'
const whyKept =
  '`lifeboat wal status` shows what is not in every repository yet: only what is there everywhere is removed'

/** Where a file system does not tell when the directory was made (0), nobody knows. */
async function isPruned(archive: string): Promise<boolean> {
  const segments = (await readdir(archive)).filter((name) => walFileKind(name) === 'segment').sort()
  const { birthtimeMs } = await stat(archive)
  const times = await Promise.all(
    segments.slice(0, looks).map((name) =>
      stat(join(archive, name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => null,
      ),
    ),
  )
  const oldest = Math.min(...times.filter((time) => time !== null))
  return birthtimeMs > 0 && Number.isFinite(oldest) && oldest - birthtimeMs > prunedMs
}
