import { parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import type { Repository } from './repository.ts'
import type { StoredWalObject, WalStore } from './wal.ts'
import { readWalHead } from './wal-content.ts'

/** Segments that are opened before it is given up: the first ones of so many timelines. */
const mostTried = 8
const perTimeline = 3

/** Those that are encrypted, and cannot be read here, are passed over: so many at most, for what may lie behind them. */
const mostPassed = 1000

/** What segment sizes are read from. */
export type SegmentedPlace = Pick<Repository, 'wal' | 'listBackups' | 'readManifest'>

/**
 * The size that segments of a system have, as stored ones say in their headers, or else the newest physical backups, for which
 * nobody needs a key. Names do not tell it: those of large segments are possible for small ones, too, and where only some are
 * stored, a wrong guess would make gaps of what is none. So a header is believed that is of this system, and fits its name;
 * `sawSegments` is false where none is stored.
 *
 * @throws LifeboatError what the storage says, when none could be read
 */
export async function readSegmentSize(
  repository: SegmentedPlace,
  systemIdentifier: string,
  signal: AbortSignal,
): Promise<{ readonly size: number | null; readonly sawSegments: boolean }> {
  const { wal } = repository
  let [tried, passed] = [0, 0]
  let failure: LifeboatError | null = null
  for await (const timeline of wal.timelines(systemIdentifier, { signal })) {
    let here = 0
    for await (const object of wal.list(systemIdentifier, timeline, { signal })) {
      if (object.kind !== 'segment') continue
      if (!wal.isReadable(object)) {
        passed += 1
        if (passed >= mostPassed) break
        continue
      }
      try {
        const size = await sizeIn(wal, object, signal)
        if (size !== null) return { size, sawSegments: true }
      } catch (error) {
        // One that is gone, or on a bad spot of the disk.
        if (!(error instanceof LifeboatError) || error.code === 'cancelled') throw error
        if (error.code !== 'object-missing') failure = error
      }
      here += 1
      tried += 1
      if (here >= perTimeline || tried >= mostTried) break
    }
    if (tried >= mostTried) break
  }
  const sawSegments = tried + passed > 0
  const size = sawSegments ? await sizeOfBackups(repository, systemIdentifier, signal) : null
  if (size === null && failure !== null) throw failure
  return { size, sawSegments }
}

/** Manifests that are read for it, the newest ones. */
const mostManifests = 5

async function sizeOfBackups(
  repository: SegmentedPlace,
  systemIdentifier: string,
  signal: AbortSignal,
): Promise<number | null> {
  const ids: string[] = []
  for await (const id of repository.listBackups({ signal })) if (parseBackupId(id)?.type !== 'dump') ids.push(id)
  for (const id of ids.reverse().slice(0, mostManifests)) {
    try {
      const { physical, systemIdentifier: own } = await repository.readManifest(id, { signal })
      if (physical !== undefined && own === systemIdentifier) return physical.segmentSize
    } catch (error) {
      // One that is not complete, or damaged: the one before it will do.
      if (!(error instanceof LifeboatError && /^(manifest|object)-/.test(error.code))) throw error
    }
  }
  return null
}

async function sizeIn(
  wal: Pick<WalStore, 'read' | 'isReadable'>,
  object: StoredWalObject,
  signal: AbortSignal,
): Promise<number | null> {
  const header = readWalPageHeader(await readWalHead(wal, object, longHeaderSize, { signal }))
  if (header === null || header.systemIdentifier !== object.systemIdentifier) return null
  const file = parseWalName(object.name, header.segmentSize)
  return file?.kind === 'segment' && firstLsn(file.segment, header.segmentSize) === header.address
    ? header.segmentSize
    : null
}
