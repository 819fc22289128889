import type { BackupType } from './backup.ts'
import { type BackupObjects, largeObjectBytes } from './backup-objects.ts'
import type { Stock, Usage, Work } from './cost.ts'
import {
  type BackupRates,
  type Endless,
  type ScheduledType,
  type SteadyBackups,
  scheduledTypes,
  steadyBackups,
} from './cost-steady.ts'
import { type BucketWork, type CostClasses, standingWork, uploadWork, verificationWork, walWork } from './cost-work.ts'
import { monthSeconds, type PriceTable } from './prices.ts'
import type { VerificationLevel } from './proof.ts'
import type { RetentionPolicy } from './retention.ts'

/** A complete backup in the repository. */
export interface CostBackup {
  readonly id: string
  readonly type: BackupType
  readonly ageSeconds: number
  readonly objects: BackupObjects
}

/** Backups of one kind of one database, of which more come. */
export interface CostGroup {
  readonly type: ScheduledType
  readonly newest: BackupObjects
  /** What a verification of the newest reads: with what it builds on. */
  readonly verified: BackupObjects
}

/** What is known of one repository. */
export interface CostFacts {
  readonly backups: readonly CostBackup[]
  readonly groups: readonly CostGroup[]
  /** Null: none is there and none comes. */
  readonly wal: {
    readonly objects: number
    readonly bytes: number
    /** What comes in a month, as stored; null: not known. */
    readonly perMonth: { readonly objects: number; readonly bytes: number } | null
  } | null
}

/** What the configuration says of it. */
export interface CostSettings {
  readonly retention: RetentionPolicy
  /** Null: WAL never expires. */
  readonly walKeepForSeconds: number | null
  readonly rates: BackupRates
  readonly chainLimit: number
  readonly verification: { readonly perMonth: number | null; readonly level: VerificationLevel }
  readonly classes: CostClasses
  /** Null for a directory: nobody bills its requests. */
  readonly bucket: BucketWork | null
}

/** What a month like this one uses, and one when the retention has let as much go as comes. */
export interface Usages {
  readonly today: Usage
  readonly steady: Usage
}

/**
 * What the policy leaves in the end. It takes a while to find out, and depends on the configuration alone.
 *
 * @param onlySeen enough for what is used today, and quick
 */
export function steadyOf(settings: CostSettings, table: PriceTable, onlySeen = false): SteadyBackups | Endless {
  const { retention: policy, rates, chainLimit, classes } = settings
  const minimums = Object.values(classes).map((name) => table.classes.get(name)?.minimumSeconds ?? 0)
  return steadyBackups({ policy, rates, chainLimit, seenSeconds: Math.max(...minimums), onlySeen })
}

export function usagesOf(
  facts: CostFacts,
  settings: CostSettings,
  table: PriceTable,
  found: SteadyBackups | Endless = steadyOf(settings, table),
): Usages {
  const minimum = (name: string) => table.classes.get(name)?.minimumSeconds ?? 0
  const steady = typeof found === 'string' ? null : found
  const [work, unsized] = [workOf(facts, settings), unsizedTypes(facts, settings)]
  const unknownWal = facts.wal !== null && facts.wal.perMonth === null ? [walUnknown] : []
  const nothing = facts.backups.length === 0 && (facts.wal?.objects ?? 0) === 0 ? ['nothing is stored yet'] : []
  const full = steadyStock(facts, settings, steady, minimum)
  const endless = [
    ...(found === 'forever' ? ['backups never expire (keepFor is forever): there is always more'] : []),
    ...(found === 'too-many' ? ['more than 20,000 backups would stay: they are not counted'] : []),
    ...(full.isWalEndless ? ['WAL never expires (walKeepFor is forever): there is always more'] : []),
  ]
  return {
    today: {
      stored: present(stockOf(facts, settings)),
      removedEarly: present(full.removedEarly.flatMap((one) => begun(one, facts))),
      work: [...work, ...standing(settings, work)],
      // What comes makes requests; a directory has none.
      unknown: [...nothing, ...(settings.bucket === null ? [] : unknownWal)],
    },
    steady: {
      stored: present(full.stored),
      removedEarly: present(full.removedEarly),
      work: [...work, ...standing(settings, work)],
      unknown: [...unsized, ...unknownWal, ...endless],
    },
  }
}

const walUnknown = 'how much WAL comes: two physical backups an hour apart tell, or a server that is watched'

function present<S extends Stock>(stocks: readonly S[]): readonly S[] {
  return stocks.filter(({ objects }) => objects > 0)
}

/** The objects of some backups, each of `times` alike, by their class. */
export function stocksOf(
  { large, largeBytes, small, smallBytes }: BackupObjects,
  { backups, others }: Pick<CostClasses, 'backups' | 'others'>,
  times = 1,
): readonly [large: Stock, small: Stock] {
  return [
    { storageClass: backups, objects: large * times, bytes: largeBytes * times },
    { storageClass: others, objects: small * times, bytes: smallBytes * times },
  ]
}

/** Small segments do not get their class; of their sizes only the mean is known. */
function walClass({ wal }: CostFacts, classes: CostClasses): string {
  const { objects, bytes } = wal === null || wal.objects > 0 ? (wal ?? { objects: 0, bytes: 0 }) : (wal.perMonth ?? wal)
  return bytes >= objects * largeObjectBytes ? classes.wal : classes.others
}

function stockOf(facts: CostFacts, { classes }: CostSettings): readonly Stock[] {
  const { backups, wal } = facts
  const ofWal = wal === null ? [] : [{ storageClass: walClass(facts, classes), objects: wal.objects, bytes: wal.bytes }]
  return [...backups.flatMap(({ objects }) => stocksOf(objects, classes)), ...ofWal]
}

/** What went before its time, and how old it was when it did. */
interface Early extends Stock {
  readonly type: ScheduledType | 'wal'
  readonly fromSeconds: number
}

function steadyStock(
  facts: CostFacts,
  { classes, rates, walKeepForSeconds }: CostSettings,
  steady: SteadyBackups | null,
  minimum: (storageClass: string) => number,
) {
  const stored: Stock[] = []
  const removedEarly: Early[] = []
  for (const type of scheduledTypes) {
    const groups = facts.groups.filter((group) => group.type === type)
    const isMade = rates[type] !== null || (type === 'full' && rates.incremental !== null)
    // What nobody schedules is as much as now, and so is what never expires, at least.
    if (!isMade || steady === null) {
      const held = facts.backups.filter((backup) => backup.type === type)
      stored.push(...held.flatMap(({ objects }) => stocksOf(objects, classes)))
      continue
    }
    for (const { newest } of groups) {
      stored.push(...stocksOf(newest, classes, steady.kept[type].length))
      for (const [index, { storageClass }] of stocksOf(newest, classes).entries()) {
        const young = steady.gone[type].filter((age) => age < minimum(storageClass))
        const stock = stocksOf(newest, classes, young.length)[index]
        const [first] = young
        if (stock === undefined || first === undefined) continue
        // The oldest that stays is the next to go.
        removedEarly.push({ ...stock, type, fromSeconds: steady.kept[type].findLast((age) => age < first) ?? first })
      }
    }
  }
  const { perMonth = null } = facts.wal ?? {}
  const storageClass = walClass(facts, classes)
  const isWalEndless = facts.wal !== null && walKeepForSeconds === null
  if (facts.wal !== null && (isWalEndless || perMonth === null)) {
    stored.push({ storageClass, objects: facts.wal.objects, bytes: facts.wal.bytes })
  } else if (perMonth !== null && walKeepForSeconds !== null) {
    // A physical backup that stays keeps all WAL after it.
    const oldest = Math.max(steady?.kept.full.at(-1) ?? 0, steady?.kept.incremental.at(-1) ?? 0)
    const staySeconds = Math.max(walKeepForSeconds, oldest)
    const during = (seconds: number): Stock => ({
      storageClass,
      objects: (perMonth.objects * seconds) / monthSeconds,
      bytes: (perMonth.bytes * seconds) / monthSeconds,
    })
    stored.push(during(staySeconds))
    const early = during(Math.max(0, minimum(storageClass) - staySeconds))
    removedEarly.push({ ...early, type: 'wal', fromSeconds: staySeconds })
  }
  return { stored, removedEarly, isWalEndless }
}

/** Within a month from now so much of it will be: nothing goes before the first backup is old enough. */
function begun({ type, fromSeconds, ...stock }: Early, { backups }: CostFacts): Stock[] {
  const isSame = (of: BackupType) => (type === 'wal' ? of === 'full' || of === 'incremental' : of === type)
  const ages = backups.flatMap((backup) => (isSame(backup.type) ? [backup.ageSeconds] : []))
  const oldest = ages.reduce((most, age) => Math.max(most, age), type === 'wal' && ages.length === 0 ? fromSeconds : 0)
  const share = Math.min(1, Math.max(0, (oldest + monthSeconds - fromSeconds) / monthSeconds))
  return [{ ...stock, objects: stock.objects * share, bytes: stock.bytes * share }]
}

/** Kinds that are scheduled, and of which none is there whose size could be known. */
function unsizedTypes({ groups }: CostFacts, { rates }: CostSettings): readonly string[] {
  return scheduledTypes
    .filter((type) => rates[type] !== null && !groups.some((group) => group.type === type))
    .map((type) => `how large ${type === 'dump' ? 'dumps' : `${type} backups`} are: there is none yet`)
}

/** Backups, WAL and verifications; what goes on besides them is not in it. */
function workOf(facts: CostFacts, settings: CostSettings): readonly Work[] {
  const { bucket, rates, verification, classes } = settings
  if (bucket === null) return []
  return [
    ...facts.groups.flatMap(({ type, newest }) => uploadWork(newest, rates[type] ?? 0, { classes, bucket })),
    ...facts.groups.flatMap(({ type, verified }) => {
      // Bytes that are unchanged are read again only where they are restored.
      const most = verification.level === 'artifact' ? (rates[type] ?? 0) : Number.POSITIVE_INFINITY
      return verificationWork(verified, Math.min(verification.perMonth ?? 0, most), { classes, bucket })
    }),
    ...(facts.wal?.perMonth == null ? [] : [walWork(facts.wal.perMonth.objects, walClass(facts, classes))]),
  ]
}

function standing({ bucket, classes }: CostSettings, work: readonly Work[]): readonly Work[] {
  return bucket === null ? [] : [standingWork(bucket, { work, storageClass: classes.others })]
}
