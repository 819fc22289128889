import { type Manifest, parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { parseHistory, Timelines } from '../domain/timeline.ts'
import { type WalNeed, WalRetention, type WalVerdict } from '../domain/wal-retention.ts'
import { readWhole, type Stoppable } from './backup-folder.ts'
import type { Repository } from './repository.ts'
import type { StoredWalObject } from './wal.ts'

interface PhysicalBackup extends WalNeed {
  readonly systemIdentifier: string
  readonly segmentSize: number
}

/** The physical backups in a repository, which its WAL is kept for. */
export interface PhysicalBackups {
  readonly backups: readonly PhysicalBackup[]
  /** When the oldest one began that has no manifest yet; null: there is none. */
  readonly makingSince: Date | null
}

export interface WalPolicy {
  readonly keepForSeconds: number
  readonly now: Date
  /** The system identifier of the server, by its own word; null: not known, so that no WAL is a former cluster's. */
  readonly present: () => Promise<string | null>
}

/** A file of WAL in a repository, and what is to become of it. */
export interface JudgedWal extends WalVerdict<WalInRepository> {
  readonly systemIdentifier: string
  readonly timeline: number
}

interface WalInRepository extends StoredWalObject {
  readonly storedAt: Date
}

/** The name of a backup tells when it began; a base backup from a standby begins at a restartpoint of before. */
const beforeBackupMs = 3_600_000
const largestHistory = 1024 * 1024

/**
 * Reads where the WAL of each physical backup begins: from the manifests themselves, since what is removed depends on it.
 *
 * @throws LifeboatError `manifest-invalid` for one that cannot be read: it may be the one that needs the oldest WAL
 */
export async function readPhysicalBackups(repository: Repository, options: Stoppable = {}): Promise<PhysicalBackups> {
  const backups: PhysicalBackup[] = []
  let makingSince: Date | null = null
  for await (const id of repository.listBackups(options)) {
    const named = parseBackupId(id)
    if (named === null || named.type === 'dump') continue
    const found = await repository.inspect(id, options)
    if (found?.state === 'complete') {
      backups.push(needOf(await repository.readManifest(id, options)))
    } else if (found !== null && found.inProgress?.purpose !== 'expire') {
      const since = new Date(named.at.getTime() - beforeBackupMs)
      if (makingSince === null || since < makingSince) makingSince = since
    }
  }
  return { backups, makingSince }
}

function needOf({ backupId, systemIdentifier, timeline, start, physical }: Manifest): PhysicalBackup {
  const first = physical?.wal[0] ?? { timeline, start: start.lsn }
  const lsn = parseLsn(first.start)
  if (physical === undefined || lsn === null)
    throw new LifeboatError('manifest-invalid', `the manifest of ${backupId} does not say where its WAL begins`)
  return { id: backupId, systemIdentifier, timeline: first.timeline, lsn, segmentSize: physical.segmentSize }
}

/** Of the backups, if it is one: pg_resetwal can change it, and then the names of both sizes lie side by side. */
function segmentSizeOf(backups: readonly PhysicalBackup[]): number | null {
  const [size = null, ...others] = new Set(backups.map(({ segmentSize }) => segmentSize))
  return others.length === 0 ? size : null
}

/**
 * Judges all WAL of a repository: system by system, the timelines in ascending order, each from its oldest segment on. It is
 * listed as it is judged, so that memory does not grow with it; what goes may be removed meanwhile. Histories and labels are
 * never judged, they stay.
 */
export async function* judgeWal(
  repository: Repository,
  { keepForSeconds, now, present }: WalPolicy,
  { backups, makingSince }: PhysicalBackups,
  options: Stoppable = {},
): AsyncGenerator<JudgedWal> {
  const systems: string[] = []
  for await (const system of repository.wal.systems(options)) systems.push(system)
  // One system alone is judged alike whosever it is: nobody need be asked.
  const server = systems.length > 1 ? await present() : null
  for (const systemIdentifier of systems) {
    const own = backups.filter((backup) => backup.systemIdentifier === systemIdentifier)
    const numbers: number[] = []
    for await (const timeline of repository.wal.timelines(systemIdentifier, options)) numbers.push(timeline)
    numbers.sort((a, b) => a - b)
    const timelines = await readTimelines(repository, systemIdentifier, options)
    const retention = new WalRetention({
      timelines,
      segmentSize: segmentSizeOf(own),
      backups: own,
      makingSince,
      keepForSeconds,
      now,
    })
    const system = { systemIdentifier, numbers, retention }
    if (server === null || server === systemIdentifier || own.length > 0)
      yield* judgeTimelines(repository, system, options)
    else yield* judgeFormer(repository, system, options)
  }
}

interface System {
  readonly systemIdentifier: string
  readonly numbers: readonly number[]
  readonly retention: WalRetention
}

async function* judgeTimelines(
  repository: Repository,
  { systemIdentifier, numbers, retention }: System,
  options: Stoppable,
): AsyncGenerator<JudgedWal> {
  for (const timeline of numbers) {
    const about = { systemIdentifier, timeline }
    const judge = retention.timeline<WalInRepository>(timeline)
    for await (const file of list(repository, about, options)) {
      for (const verdict of judge.next(file)) yield { ...about, ...verdict }
    }
    for (const verdict of judge.end()) yield { ...about, ...verdict }
  }
}

/** The WAL of a former cluster goes as a whole. */
async function* judgeFormer(
  repository: Repository,
  { systemIdentifier, numbers, retention }: System,
  options: Stoppable,
): AsyncGenerator<JudgedWal> {
  const keep = await hasYoung()
  for (const timeline of numbers) {
    const about = { systemIdentifier, timeline, keep, backupId: null, reason: keep ? 'former' : 'expired' } as const
    for await (const file of list(repository, about, options)) yield { ...about, file }
  }

  async function hasYoung(): Promise<boolean> {
    for (const timeline of numbers) {
      for await (const file of list(repository, { systemIdentifier, timeline }, options)) {
        if (retention.young(file) !== null) return true
      }
    }
    return false
  }
}

async function* list(
  { wal }: Repository,
  { systemIdentifier, timeline }: { readonly systemIdentifier: string; readonly timeline: number },
  options: Stoppable,
): AsyncGenerator<WalInRepository> {
  for await (const object of wal.list(systemIdentifier, timeline, options))
    yield { ...object, storedAt: object.info.modified }
}

/** The stored histories. One that is damaged counts as missing: then more is kept. */
async function readTimelines(
  { wal, storage }: Repository,
  systemIdentifier: string,
  options: Stoppable,
): Promise<Timelines> {
  const timelines = new Timelines()
  for await (const { kind, name, info } of wal.listPlain(systemIdentifier, options)) {
    if (kind !== 'history') continue
    try {
      const { bytes } = await readWhole(storage, info.key, largestHistory, options)
      if (bytes !== null) timelines.add(parseHistory(Number.parseInt(name, 16), bytes.toString('utf8')))
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'wal-invalid')) throw error
    }
  }
  return timelines
}

/**
 * When the newest WAL was stored: traces of the time that has passed, where there may be no backups. One log (4 GiB) of
 * each timeline is looked at.
 */
export async function walTraces(repository: Repository, options: Stoppable = {}): Promise<readonly Date[]> {
  const traces: Date[] = []
  for await (const systemIdentifier of repository.wal.systems(options)) {
    for await (const timeline of repository.wal.timelines(systemIdentifier, options)) {
      for await (const { info } of repository.wal.listNewest(systemIdentifier, timeline, options))
        traces.push(info.modified)
    }
  }
  return traces
}
