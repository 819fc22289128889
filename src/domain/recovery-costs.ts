import type { WalPosition } from './coverage.ts'
import type { PlanBackup, RecoveryPlan } from './recovery-plan.ts'
import { segmentAt, segmentBefore } from './wal.ts'

/*
 * What a recovery takes: bytes, room and time. Estimates, each of which says how it was made; what nobody measured is null.
 */

/** What the parts of a restore are measured by. */
export const restorePhases = ['fetch', 'verify', 'combine', 'start', 'replay'] as const
export type RestorePhase = (typeof restorePhases)[number]

/** A restore that was done, by a verification or for real. */
export interface MeasuredRestore {
  readonly backup: string
  readonly at: Date
  /** Seconds by phase; others count as well, and are not looked at. */
  readonly phases: Readonly<Record<string, number>>
  /** WAL that was replayed, bytes as PostgreSQL writes it. */
  readonly walBytes: number
}

export interface CostOptions {
  /** Of the WAL, bytes. */
  readonly segmentSize: number
  /** The backups that the measured restores were of are found here. */
  readonly backups: readonly PlanBackup[]
  readonly measured: readonly MeasuredRestore[]
  /** What the WAL takes as stored, by what is known of it; null: nothing is. */
  readonly storedWalBytes: (from: WalPosition, to: WalPosition) => number | null
  /** Where everything was written that was committed before the moment; null: nobody noted it. */
  readonly reached: WalPosition | null
}

export interface RecoveryCosts {
  /** Where the replay is expected to stop: not after `to` of the plan. */
  readonly stopsAt: WalPosition
  /** Of WAL that is replayed to there. */
  readonly segments: number
  /** Of WAL to fetch to there; `isUpperBound`: what is stored is not known, and they are counted whole. */
  readonly walBytes: { readonly bytes: number; readonly isUpperBound: boolean }
  /** Backups and WAL, as stored. */
  readonly fetchBytes: number
  readonly disk: RecoveryDisk
  readonly time: RecoveryTime
}

/** Room on the disk of the new data directory, bytes; what the replay adds to the data is not in it. */
export interface RecoveryDisk {
  /** The data directory and its tablespaces; of a chain the most that it can be. */
  readonly data: number
  /** Members of a chain, unpacked, which are there until they are combined. */
  readonly unpacked: number
  /** WAL in the spool and in `pg_wal`. */
  readonly wal: number
  /** The most that is there at a time. */
  readonly peak: number
}

export interface RecoveryTime {
  /** Null where a phase was never measured. */
  readonly seconds: number | null
  readonly phases: Readonly<Record<RestorePhase, number | null>>
  /** Restores from which it was learned. */
  readonly measured: number
}

/** As `lifeboat wal fetch` has it, and `max_wal_size` of a server that nobody has tuned. */
const [spoolBytes, keptWalBytes] = [512 * 2 ** 20, 2 ** 30]

export function recoveryCosts(plan: RecoveryPlan, options: CostOptions): RecoveryCosts {
  const { from, to, stop, chain, backupBytes } = plan
  const { segmentSize, reached } = options
  const stopsAt = stop.kind === 'time' && reached !== null && reached.lsn < to.lsn ? reached : to
  const segments = Math.max(0, segmentBefore(stopsAt.lsn, segmentSize) - segmentAt(from.lsn, segmentSize) + 1)
  const stored = options.storedWalBytes(from, stopsAt)
  const whole = segments * segmentSize
  const walBytes = { bytes: stored ?? whole, isUpperBound: stored === null }
  return {
    ...{ stopsAt, segments, walBytes },
    fetchBytes: backupBytes + walBytes.bytes,
    disk: diskOf(chain, whole),
    time: timeOf(plan, whole, options),
  }
}

function diskOf(chain: readonly PlanBackup[], walBytes: number): RecoveryDisk {
  const unpackedAll = chain.reduce((sum, { plainBytes }) => sum + plainBytes, 0)
  // Whatever block is in the cluster that a chain gives is in one of its members.
  const data = Math.max(chain[0]?.sourceBytes ?? 0, unpackedAll)
  const unpacked = chain.length > 1 ? unpackedAll : 0
  const wal = Math.min(walBytes, spoolBytes) + Math.min(walBytes, keptWalBytes)
  // What was unpacked goes before any WAL comes.
  return { data, unpacked, wal, peak: data + Math.max(unpacked, wal) }
}

/** Of so many restores the median counts. */
const lastMeasured = 5
/** A measurement says nothing of work that is so many times as much: what is always the same would count as often. */
const furthest = 64

/**
 * Each phase takes as long as the median of the last restores that had as much to do, or down to a 64th of it, in proportion
 * to the bytes: of the backups as stored, of the WAL as it is written. The start of the server takes what it took.
 */
function timeOf({ chain, backupBytes }: RecoveryPlan, walBytes: number, options: CostOptions): RecoveryTime {
  const byId = new Map(options.backups.map((backup) => [backup.id, backup]))
  const newest = options.measured.toSorted((a, b) => b.at.getTime() - a.at.getTime())
  const used = new Set<MeasuredRestore>()
  const guess = (
    phase: RestorePhase,
    work: number | null,
    workOf: (measured: MeasuredRestore) => number,
  ): number | null => {
    if (work === 0) return 0
    const found: number[] = []
    for (const one of newest) {
      const [seconds, done] = [one.phases[phase], workOf(one)]
      if (seconds === undefined || (work !== null && (done <= 0 || work / done > furthest))) continue
      found.push(work === null ? seconds : (seconds * work) / done)
      used.add(one)
      if (found.length === lastMeasured) break
    }
    return median(found)
  }
  const isChain = ({ backup }: MeasuredRestore) => byId.get(backup)?.type === 'incremental'
  const ofBackups = ({ backup }: MeasuredRestore) => storedBytesOf(backup, byId)
  const phases = {
    fetch: guess('fetch', backupBytes, ofBackups),
    verify: guess('verify', backupBytes, ofBackups),
    combine: chain.length > 1 ? guess('combine', backupBytes, (one) => (isChain(one) ? ofBackups(one) : 0)) : 0,
    start: guess('start', null, () => 1),
    replay: guess('replay', walBytes, (one) => one.walBytes),
  }
  const all = Object.values(phases)
  const seconds = all.includes(null) ? null : all.reduce<number>((sum, one) => sum + (one ?? 0), 0)
  return { seconds, phases, measured: used.size }
}

/** Of a backup and all that it builds on; 0 where one of them is not there any more. */
function storedBytesOf(id: string, byId: ReadonlyMap<string, PlanBackup>): number {
  let sum = 0
  const seen = new Set<string>()
  for (let next: string | null = id; next !== null; ) {
    const backup: PlanBackup | undefined = byId.get(next)
    if (backup === undefined || seen.has(next)) return 0
    seen.add(next)
    sum += backup.storedBytes
    next = backup.type === 'full' ? null : backup.parent
  }
  return sum
}

function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b)
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]]
  return low === undefined || high === undefined ? null : (low + high) / 2
}
