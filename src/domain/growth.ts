import { type Fingerprint, tableLabel } from './fingerprint.ts'

/** One measured backup. */
export interface Measured {
  readonly at: Date
  /** Bytes or rows. */
  readonly value: number
}

/** What backups of this kind usually measure. */
export interface Baseline {
  readonly value: number
  /** From how many backups. */
  readonly of: number
  /** Only those of the same day of the week (UTC). */
  readonly sameWeekday: boolean
}

export interface Deviation extends Baseline {
  /** Newest against the baseline; above 1 it has grown. */
  readonly ratio: number
  /** Outside of what is usual. */
  readonly isUnusual: boolean
}

/** Limits of the ratio within which nothing is unusual, however steady the backups before were. */
export interface GrowthBounds {
  /** E.g. 0.7. */
  readonly shrinkBelow: number
  /** E.g. 1.5. */
  readonly growAbove: number
}

const weekdayWindowMs = 8 * 7 * 86_400_000
const fewest = 3
const mostRecent = 14
/** More would lag behind a database that grows by a few percent a day. */
const mostWeeks = 4

/** What was seen before, but for the most extreme fifth on either side, is usual; and so is a little beyond it. */
const margin = 1.1

/**
 * What the newest backup is held against: the median of the four newest of the same weekday where there are three of the
 * last eight weeks, else of the last fourteen; null below three. Medians: one bad night in the history does not move them.
 *
 * @param earlier newest first
 */
export function baselineOf(
  newest: Measured,
  earlier: readonly Measured[],
): (Baseline & { readonly values: readonly number[] }) | null {
  const weekday = newest.at.getUTCDay()
  const since = newest.at.getTime() - weekdayWindowMs
  const same = earlier.filter(({ at }) => at.getUTCDay() === weekday && at.getTime() >= since)
  const sameWeekday = same.length >= fewest
  const values = (sameWeekday ? same.slice(0, mostWeeks) : earlier.slice(0, mostRecent))
    .map(({ value }) => value)
    .filter((value) => value > 0)
  if (values.length < fewest) return null
  return { value: median(values), of: values.length, sameWeekday, values }
}

/** How far the newest backup is from what is usual; null while nothing is known to be usual. */
export function deviationOf(newest: Measured, earlier: readonly Measured[], bounds: GrowthBounds): Deviation | null {
  const baseline = baselineOf(newest, earlier)
  if (baseline === null) return null
  const { values, ...rest } = baseline
  const ratio = newest.value / baseline.value
  const sorted = values.toSorted((a, b) => a - b)
  const trimmed = Math.floor(sorted.length / 5)
  const [low, high] = [sorted.at(trimmed) ?? 0, sorted.at(-1 - trimmed) ?? 0]
  const isNew = newest.value < low / margin || newest.value > high * margin
  return { ...rest, ratio, isUnusual: isNew && (ratio < bounds.shrinkBelow || ratio > bounds.growAbove) }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] as number
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2
}

/** A table by what it has to do with a deviation. Null: not known (not hashed, or not there). */
export interface TableChange {
  /** Qualified, and quoted where needed, on one line. */
  readonly table: string
  readonly change: 'new' | 'dropped' | 'changed'
  readonly rowsBefore: number | null
  readonly rowsAfter: number | null
  readonly bytesBefore: number | null
  readonly bytesAfter: number | null
}

/** The tables that explain the difference of two backups, most bytes (then rows) first. */
export function explainGrowth(before: Fingerprint, after: Fingerprint, most = 10): readonly TableChange[] {
  const former = new Map(before.tables.map((table) => [tableLabel(table), table]))
  const present = new Map(after.tables.map((table) => [tableLabel(table), table]))
  const changes: TableChange[] = []
  for (const label of new Set([...former.keys(), ...present.keys()])) {
    const [old, now] = [former.get(label), present.get(label)]
    const change: TableChange = {
      table: label,
      change: old === undefined ? 'new' : now === undefined ? 'dropped' : 'changed',
      rowsBefore: old?.whole?.rows ?? null,
      rowsAfter: now?.whole?.rows ?? null,
      bytesBefore: old?.bytes ?? null,
      bytesAfter: now?.bytes ?? null,
    }
    if (weightOf(change) > 0 || rowsOf(change) > 0) changes.push(change)
  }
  // A delete leaves the table's file as large as it was: rows tell then, at some bytes for each.
  const weigh = (change: TableChange) => Math.max(weightOf(change), rowsOf(change) * 100)
  return changes.sort((a, b) => weigh(b) - weigh(a) || (a.table < b.table ? -1 : 1)).slice(0, most)
}

/** Rows of all tables together; null where one is not known. */
export function totalRows({ tables }: Fingerprint): number | null {
  let sum = 0
  for (const { whole } of tables) {
    if (whole === undefined) return null
    sum += whole.rows
  }
  return sum
}

function weightOf({ bytesBefore, bytesAfter }: TableChange): number {
  return Math.abs((bytesAfter ?? 0) - (bytesBefore ?? 0))
}

function rowsOf({ change, rowsBefore, rowsAfter }: TableChange): number {
  if (change === 'changed' && (rowsBefore === null || rowsAfter === null)) return 0
  return Math.abs((rowsAfter ?? 0) - (rowsBefore ?? 0))
}
