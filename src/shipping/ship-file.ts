import { join } from 'node:path'
import { parseWalName, segmentAt, segmentBefore, segmentName, type WalFile } from '../domain/wal.ts'
import type { QuarantineReason } from '../observe/shipping-state.ts'
import type { StoredWalState } from '../observe/wal-state.ts'
import type { Repository } from '../repository/repository.ts'
import type { StoredWalObject } from '../repository/wal.ts'
import type { Item, ReadyArchive } from './plan.ts'
import type { FileIdentity, Head, SegmentQuestion, Whole } from './question.ts'
import { Unreadable } from './readers.ts'
import { shipPlain } from './ship-plain.ts'
import type { Source } from './source.ts'
import type { Trust } from './trust.ts'

/** What has become of a file. */
export type Outcome =
  /** It is in the repository; `bytes` as stored, null when it was there before. */
  | {
      readonly kind: 'stored'
      readonly systemIdentifier: string
      readonly file: FileIdentity
      readonly bytes: number | null
    }
  | {
      readonly kind: 'bad'
      readonly reason: QuarantineReason | 'undecided'
      readonly identity: string | null
      readonly systemIdentifier: string | null
      readonly description: string
    }
  /** It is not there any more, or is still being written, or what it depends on is not there yet: see when something changes. */
  | { readonly kind: 'later' }

export interface ShipFile {
  readonly repository: Repository
  readonly source: Source
  readonly archive: ReadyArchive
  readonly stored: StoredWalState
  readonly judge: (systemIdentifier: string) => Trust
  /** Whether one more file may be copied into the quarantine: somebody else's whole WAL does not belong there. */
  readonly mayCopy: () => boolean
  /** The file as it was when this process shipped it; null: it does not know. */
  readonly shippedAs: string | null
  readonly signal: AbortSignal
}

/**
 * What is copied when it must not be stored: bytes that somebody may miss. The rest is none, or not WAL at all.
 */
const copied: ReadonlySet<QuarantineReason> = new Set<QuarantineReason>([
  'foreign',
  'contradicts',
  'damaged',
  'other-place',
  'other-timeline',
  'other-version',
])

const later: Outcome = { kind: 'later' }

/**
 * Brings one file of the archive into a repository, unless it must not be there.
 *
 * @throws what the storage and the lease say; `storage-failed` when the archive hangs
 */
export async function shipFile(item: Item, options: ShipFile): Promise<Outcome> {
  try {
    const { file } = item
    if (file.kind === 'history' || file.kind === 'label') return await shipPlain(item, file, options)
    return await shipSegment(item, file, options)
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error
    if (error.code === 'ENOENT' || error.code === 'CHANGED') return later
    const description = `it cannot be read: ${error.message}`
    return { kind: 'bad', reason: 'unreadable', identity: null, systemIdentifier: null, description }
  }
}

/** What is asked about a segment or partial. */
export function questionOf(file: Extract<WalFile, { segment: number }>, segmentSize: number): SegmentQuestion {
  return { timeline: file.timeline, segment: file.segment, segmentSize, checkPages: file.kind === 'segment' }
}

async function shipSegment(
  item: Item,
  file: Exclude<WalFile, { kind: 'history' }>,
  options: ShipFile,
): Promise<Outcome> {
  const { repository, source, archive, stored, judge, shippedAs, signal } = options
  if (file.kind === 'partial' && !isLeft(file, archive, stored)) return later
  const path = join(archive.directory, item.name)
  const question = questionOf(file, archive.segmentSize)
  const head = await source.head(path, question)
  const { systemIdentifier } = head
  const bad = (reason: QuarantineReason, description: string, whole?: Whole) =>
    quarantine(item, { reason, description, head, path, question, whole }, options)
  if (head.problem !== null) return bad(head.problem, head.description ?? '')
  if (systemIdentifier === null) return bad('not-wal', 'it does not begin with a page of WAL')
  const trust = judge(systemIdentifier)
  if (trust === 'undecided') {
    const description = `its system identifier ${systemIdentifier} is not known to be this server's`
    return { kind: 'bad', reason: 'undecided', identity: head.identity, systemIdentifier, description }
  }
  if (trust === 'foreign') return bad('foreign', `it is of another cluster (system identifier ${systemIdentifier})`)
  if (item.isAgain && head.identity === shippedAs) return { kind: 'stored', systemIdentifier, file: head, bytes: null }
  if (file.kind === 'segment' && isIndexed(file, systemIdentifier, archive, stored))
    return { kind: 'stored', systemIdentifier, file: head, bytes: null }
  const whole = await source.whole(path, question, head)
  if (whole.identity !== head.identity) return later
  const short = whole.sha256.slice(0, 12)
  const segment = segmentName(file.timeline, file.segment, archive.segmentSize)
  const there = await repository.wal.ofSegment(systemIdentifier, segment, { signal })
  const same = there.filter(({ name }) => name === item.name)
  if (!same.some((one) => one.hash === short)) {
    if (same.length > 0) return bad('contradicts', 'other bytes are stored under its name', whole)
    if (whole.isDamaged) return bad('damaged', 'a page within it is not what it should be', whole)
    const { body, bytes, isEncrypted } = await source.body(path, whole)
    const stored = { systemIdentifier, name: item.name, hash: short, isEncrypted }
    const put = await repository.wal.put(stored, body, { signal })
    if (file.kind === 'segment') await removePartials(repository, there, archive.segmentSize, signal)
    return { kind: 'stored', systemIdentifier, file: whole, bytes: put === 'stored' ? bytes() : null }
  }
  if (file.kind === 'segment') await removePartials(repository, there, archive.segmentSize, signal)
  return { kind: 'stored', systemIdentifier, file: whole, bytes: null }
}

/** Of an archive that holds the WAL of a server before and after its upgrade: the index tells of the other one, too. */
function isIndexed(
  { timeline, segment }: { timeline: number; segment: number },
  systemIdentifier: string,
  { segmentSize, ...archive }: ReadyArchive,
  stored: StoredWalState,
): boolean {
  const coverage = stored.systems.get(systemIdentifier)?.coverage
  return (
    systemIdentifier !== archive.systemIdentifier &&
    coverage?.segmentSize === segmentSize &&
    coverage.segments(timeline).has(segment)
  )
}

/** A server archives a partial when it has left its timeline there; one that is still being received is no such. */
function isLeft(
  { timeline, segment, end }: Extract<WalFile, { kind: 'segment' | 'partial' | 'label' }> & { end?: bigint | null },
  { coverage, segmentSize, systemIdentifier }: ReadyArchive,
  stored: StoredWalState,
): boolean {
  if (end !== null) return false
  const known = systemIdentifier === null ? undefined : stored.systems.get(systemIdentifier)?.coverage.timelines
  const forks = [...coverage.timelines.forks(timeline), ...(known?.forks(timeline) ?? [])]
  return forks.some(({ lsn }) => segmentAt(lsn, segmentSize) === segment || segmentBefore(lsn, segmentSize) === segment)
}

/** What streaming had of a segment is worth nothing beside the whole one. What the server itself left stays. */
async function removePartials(
  repository: Repository,
  there: readonly StoredWalObject[],
  segmentSize: number,
  signal: AbortSignal,
): Promise<void> {
  for (const object of there) {
    const file = parseWalName(object.name, segmentSize)
    if (file?.kind === 'partial' && file.end !== null) await repository.wal.remove(object, { signal })
  }
}

interface Finding {
  readonly reason: QuarantineReason
  readonly description: string
  readonly head: Head
  readonly path: string
  readonly question: SegmentQuestion
  readonly whole: Whole | undefined
}

async function quarantine(
  { name }: Item,
  { reason, description, head, path, question, whole }: Finding,
  { repository, source, mayCopy, signal }: ShipFile,
): Promise<Outcome> {
  const { systemIdentifier, identity } = head
  if (copied.has(reason) && mayCopy()) {
    const read = whole ?? (await source.whole(path, question, head))
    const { body, isEncrypted } = await source.body(path, read)
    const file = { systemIdentifier, name, hash: read.sha256.slice(0, 12), isEncrypted }
    await repository.wal.quarantine(file, body, { signal })
  }
  return { kind: 'bad', reason, identity, systemIdentifier, description }
}
