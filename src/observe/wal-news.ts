import type { Logger } from 'pino'
import { type ArchiverState, archiverHint } from '../domain/archiver.ts'
import { segmentName } from '../domain/wal.ts'
import type { ArchiverView } from './archiver.ts'
import type { Catalog } from './catalog.ts'
import type { WalArchiveState, WalState } from './wal-state.ts'

/** Below this share of its disk an archive is nearly full: the rest is soon written when repositories are away. */
const lowRatio = 0.1

/** What is not known is not full. */
export function isNearlyFull(archive: WalArchiveState | null): boolean {
  const capacity = archive?.capacity ?? null
  return capacity !== null && capacity.freeBytes < capacity.totalBytes * lowRatio
}

export interface WalNewsOptions {
  readonly log: Logger
  /** An archive is configured that nothing but archive_command fills. */
  readonly mustArchive: boolean
}

/**
 * Tells in the log, once each, what goes wrong with the WAL, and when it is over: an archiver that does not archive, segments
 * that are nowhere, replication slots that keep too much, an archive whose disk is nearly full. What is not known changes nothing.
 */
export function createWalNews({ log, mustArchive }: WalNewsOptions): (catalog: Catalog) => void {
  const lately = createLately(log)
  return ({ archiver, wal }) => {
    if (archiver !== null) tellArchiver(archiver, mustArchive, lately)
    if (wal === null) return
    tellArchive(wal, lately)
    tellMissing(wal, lately)
    tellSlots(wal, lately)
  }
}

function tellArchiver({ state, detail }: ArchiverView, mustArchive: boolean, lately: Lately): void {
  if (state === null || (state === 'off' && !mustArchive)) return
  const hint = archiverHint(state)
  if (hint === null) lately.over('archiver', 'the server archives its WAL again')
  else
    lately.told(
      'archiver',
      state,
      { state, detail, hint },
      archiverWrong[state] ?? 'the server does not archive its WAL',
    )
}

const archiverWrong: Readonly<Partial<Record<ArchiverState, string>>> = {
  lagging: 'the server archives its WAL too slowly',
  lying: 'WAL that the server takes for archived is not there',
}

function tellArchive({ archive }: WalState, lately: Lately): void {
  if (archive === null || archive.capacity === null) return
  if (!isNearlyFull(archive)) {
    lately.over('disk', 'the disk of the WAL archive has room again')
    return
  }
  const { directory, capacity } = archive
  const hint = 'a repository that is away, or no wal.keepInArchive, lets it fill up: `lifeboat wal status`'
  lately.told(
    'disk',
    'low',
    { directory, freeBytes: capacity.freeBytes, hint },
    'the disk of the WAL archive is nearly full',
  )
}

function tellMissing({ repositories, clock }: WalState, lately: Lately): void {
  for (const { repository, missingSegments, gaps } of repositories) {
    if (missingSegments === null) continue
    const key = `missing ${repository}`
    const gap = gaps.find(({ acknowledged }) => acknowledged === null)
    if (missingSegments === 0 || gap === undefined || clock === null) {
      if (missingSegments === 0) lately.over(key, 'no WAL is missing any more', { repository })
      continue
    }
    const first = segmentName(gap.timeline, gap.first, clock.segmentSize)
    const about = { repository, missingSegments, first, hint: missingHint }
    lately.told(key, `${first} ${gaps.length}`, about, 'WAL is missing: no recovery gets past it')
  }
}

/** What to do about segments that are nowhere. */
export const missingHint =
  'put them into the archive if the server (pg_wal), a standby or another repository still has them: `lifeboat wal gaps`; else `lifeboat backup --type full`'

function tellSlots({ slots }: WalState, lately: Lately): void {
  if (slots === null) return
  for (const { name, active, walStatus, retainedBytes, overLimit } of slots) {
    const key = `slot ${name}`
    const isLost = walStatus === 'lost'
    const about = { slot: name, active, retainedBytes, hint: '`lifeboat check` says what to do' }
    if (isLost) lately.told(key, 'lost', about, 'the server has given a replication slot up')
    else if (overLimit) lately.told(key, 'over', about, 'a replication slot keeps more WAL than wal.slotLimit')
    else lately.over(key, 'a replication slot is in order again', { slot: name })
  }
  const gone = lately
    .keys()
    .filter((key) => key.startsWith('slot ') && !slots.some(({ name }) => key === `slot ${name}`))
  for (const key of gone) lately.over(key, 'a replication slot is gone', { slot: key.slice('slot '.length) })
}

type Lately = ReturnType<typeof createLately>

/** What was told, and is not over. */
function createLately(log: Logger) {
  const last = new Map<string, string>()
  return {
    keys: () => [...last.keys()],
    told(key: string, what: string, about: object, message: string) {
      if (last.get(key) === what) return
      last.set(key, what)
      log.error(about, message)
    },
    over(key: string, message: string, about: object = {}) {
      if (last.delete(key)) log.info(about, message)
    },
  }
}
