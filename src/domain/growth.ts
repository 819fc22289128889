/** What is looked at of a backup. */
export interface Sized {
  readonly consistentAt: Date
  readonly storedBytes: number
  /** Size of the database on the server; null where nothing tells. */
  readonly sourceBytes: number | null
}

/** What backups of this kind usually are. */
export interface Baseline<B extends Sized> {
  /** Median of their stored sizes. */
  readonly storedBytes: number
  /** Newest first, three at least. */
  readonly backups: readonly B[]
  /** They are whole weeks older. */
  readonly sameWeekday: boolean
  /** Too few to tell what is usual, but what they were is no surprise. */
  readonly precedents: readonly B[]
}

export interface Deviation<B extends Sized = Sized> extends Baseline<B> {
  /** Stored size against that of the baseline; above 1 it has grown. */
  readonly ratio: number
  /** Size of the database against the median of the baseline's; null: not known. Bloat counts in it, and no limit does. */
  readonly sourceRatio: number | null
  /** The stored size is beyond the limits, and beyond what was seen before. */
  readonly isUnusual: boolean
}

/** Limits of the ratio within which nothing is unusual, however steady the backups before were. */
export interface GrowthBounds {
  /** E.g. 0.7. */
  readonly shrinkBelow: number
  /** E.g. 1.5. */
  readonly growAbove: number
}

const dayMs = 86_400_000
const longestAgoDays = 8 * 7
const fewest = 3
const mostRecent = 14
/** More would lag behind a database that grows by a few percent a day. */
const mostWeeks = 4

/** What was seen before, but for the most extreme fifth on either side, is usual; and so is a little beyond it. */
const margin = 1.1

/**
 * What a backup is held against: of each day before it the backup that was taken nearest to the same hour; the four newest
 * of the same weekday where there are three of the last eight weeks, else the last fourteen days, else (on the first days)
 * the last fourteen backups. Null below three. Medians: one bad night in the history does not move them.
 *
 * @param earlier newest first, of the same repository, type, database and cluster
 */
export function baselineOf<B extends Sized>(newest: Sized, earlier: readonly B[]): Baseline<B> | null {
  const days = oneOfEachDay(newest.consistentAt, earlier)
  const weeks = days.filter(({ daysAgo }) => daysAgo % 7 === 0 && daysAgo <= longestAgoDays).map(({ backup }) => backup)
  if (weeks.length >= fewest) return baseline(weeks.slice(0, mostWeeks), true, [])
  const perDay = days.map(({ backup }) => backup)
  if (perDay.length >= fewest) return baseline(perDay.slice(0, mostRecent), false, weeks)
  const recent: B[] = []
  for (const backup of earlier) {
    if (isMeasurable(backup)) recent.push(backup)
    if (recent.length === mostRecent) break
  }
  return recent.length < fewest ? null : baseline(recent, false, perDay)
}

/** How far a backup is from what is usual; null while nothing is known to be usual. */
export function deviationOf<B extends Sized>(
  newest: Sized,
  earlier: readonly B[],
  bounds: GrowthBounds,
): Deviation<B> | null {
  const usual = baselineOf(newest, earlier)
  if (usual === null) return null
  const ratio = newest.storedBytes / usual.storedBytes
  const against = ({ storedBytes }: Sized) => newest.storedBytes / storedBytes
  return {
    ...usual,
    ratio,
    sourceRatio: sourceRatio(newest, usual.backups),
    isUnusual: isUnusual(ratio, usual.backups.map(against), usual.precedents.map(against), bounds),
  }
}

/**
 * True when a ratio is beyond the limits, and beyond what was seen before. Not the median of the deviations: it is zero for
 * a database that is emptied every third night, and each of these would alarm.
 *
 * @param ratios against each backup of the baseline
 * @param precedents against each that went before; a single one that was alike will do
 */
export function isUnusual(
  ratio: number,
  ratios: readonly number[],
  precedents: readonly number[],
  bounds: GrowthBounds,
): boolean {
  if (!isOutside(ratio, bounds) || precedents.some((one) => !isOutside(one, bounds))) return false
  const sorted = ratios.toSorted(ascending)
  const trimmed = Math.floor(sorted.length / 5)
  const [low = 1, high = 1] = [sorted.at(trimmed), sorted.at(-1 - trimmed)]
  return ratio < 1 ? high < 1 / margin : low > margin
}

export function isOutside(ratio: number, { shrinkBelow, growAbove }: GrowthBounds): boolean {
  return ratio < shrinkBelow || ratio > growAbove
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted(ascending)
  const middle = sorted.length / 2
  const [lower, upper] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return lower === undefined || upper === undefined ? Number.NaN : lower === upper ? lower : (lower + upper) / 2
}

function ascending(a: number, b: number): number {
  return a - b
}

function baseline<B extends Sized>(backups: readonly B[], sameWeekday: boolean, precedents: readonly B[]): Baseline<B> {
  return { storedBytes: median(backups.map(({ storedBytes }) => storedBytes)), backups, sameWeekday, precedents }
}

/** Nothing can be held against nothing. */
function isMeasurable({ storedBytes }: Sized): boolean {
  return storedBytes > 0
}

function sourceRatio({ sourceBytes }: Sized, usual: readonly Sized[]): number | null {
  const known = usual.flatMap((backup) => backup.sourceBytes ?? [])
  if (sourceBytes === null || known.length < fewest) return null
  const before = median(known)
  return before > 0 ? sourceBytes / before : null
}

/**
 * Newest day first. A database that is filled all day and emptied at night is thus compared with what it was at that hour.
 * Days are counted from the backup's own hour, half a day to either side: no time zone cuts a nightly backup's days apart.
 */
function oneOfEachDay<B extends Sized>(
  at: Date,
  earlier: readonly B[],
): readonly { readonly daysAgo: number; readonly backup: B }[] {
  const found = new Map<number, { daysAgo: number; backup: B; apartMs: number }>()
  for (const backup of earlier) {
    const ageMs = at.getTime() - backup.consistentAt.getTime()
    const daysAgo = Math.round(ageMs / dayMs)
    if (daysAgo > longestAgoDays && found.size >= mostRecent) break
    // Clocks go back: what is dated later than this one tells nothing of the days before it.
    if (daysAgo <= 0 || !isMeasurable(backup)) continue
    const apartMs = Math.abs(ageMs - daysAgo * dayMs)
    const known = found.get(daysAgo)
    if (known === undefined || apartMs < known.apartMs) found.set(daysAgo, { daysAgo, backup, apartMs })
  }
  return [...found.values()].sort((a, b) => a.daysAgo - b.daysAgo)
}
