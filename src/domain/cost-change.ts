import { type CostBackup, type CostFacts, stocksOf } from './cost-usage.ts'
import type { CostClasses } from './cost-work.ts'
import { billedBytes, monthSeconds, type PriceTable, perThousand, storageDollars } from './prices.ts'

/** What is paid once. Null: the table has no price for a part of it. */
export interface OneOffCosts {
  /** For backups that go at once under the new policy, and were younger than the minimum duration of their class. */
  readonly removal: { readonly backups: number; readonly dollars: number | null }
  /**
   * If what is stored, and stays, is moved into its new class. Lifeboat does not move it: without that new backups get the new
   * class, and the old ones go in theirs. Null: no class changes.
   */
  readonly move: {
    readonly objects: number
    readonly bytes: number
    /** For leaving the old class before its minimum duration. */
    readonly early: number | null
    /** A rule of the bucket moves to a cheaper class; to a dearer one everything is read and written anew. */
    readonly way: 'transition' | 'copy'
    readonly dollars: number | null
  } | null
}

interface Change {
  readonly from: CostClasses
  readonly to: CostClasses
  /** Backups that stay by the present policy, and go at once by the new one. */
  readonly goes: ReadonlySet<string>
}

/** What a change of the policy or the classes costs once, besides what a month costs from then on. */
export function oneOffCosts(facts: CostFacts, { from, to, goes }: Change, table: PriceTable): OneOffCosts {
  const going = facts.backups.filter(({ id }) => goes.has(id))
  const removal = { backups: going.length, dollars: sum(going.map((backup) => remainder(backup, from, table))) }
  if (from.backups === to.backups) return { removal, move: null }
  const staying = facts.backups.filter(({ id }) => !goes.has(id))
  const [objects, bytes] = [
    staying.reduce((all, one) => all + one.objects.large, 0),
    staying.reduce((all, one) => all + one.objects.largeBytes, 0),
  ]
  const early = sum(
    staying.map(({ objects: { large, largeBytes }, ageSeconds }) =>
      remainderOf({ storageClass: from.backups, objects: large, bytes: largeBytes }, ageSeconds, table),
    ),
  )
  const [old, next] = [table.classes.get(from.backups), table.classes.get(to.backups)]
  const way = old !== undefined && next !== undefined && next.storage > old.storage ? 'copy' : 'transition'
  const work =
    way === 'transition'
      ? [priced(next?.transition, (price) => perThousand(objects, price))]
      : [
          priced(old?.get, (price) => perThousand(objects, price)),
          priced(old?.retrieval, (price) => storageDollars(bytes, price, table)),
          priced(next?.put, (price) => perThousand(objects, price)),
        ]
  return { removal, move: { objects, bytes, early, way, dollars: sum([early, ...work]) } }
}

function priced(price: number | null | undefined, of: (price: number) => number): number | null {
  return price == null ? null : of(price)
}

function sum(parts: readonly (number | null)[]): number | null {
  return parts.reduce((all, part) => (all === null || part === null ? null : all + part), 0)
}

/** What is billed of a backup for the rest of the minimum duration, when it goes now. */
function remainder({ objects, ageSeconds }: CostBackup, classes: CostClasses, table: PriceTable): number | null {
  return sum(
    stocksOf(objects, classes)
      .filter((stock) => stock.objects > 0)
      .map((stock) => remainderOf(stock, ageSeconds, table)),
  )
}

function remainderOf(
  stock: { readonly storageClass: string; readonly objects: number; readonly bytes: number },
  ageSeconds: number,
  table: PriceTable,
): number | null {
  const prices = table.classes.get(stock.storageClass)
  if (prices === undefined) return null
  const months = Math.max(0, prices.minimumSeconds - Math.max(0, ageSeconds)) / monthSeconds
  const { minimum, overhead } = billedBytes(stock, prices)
  return storageDollars(stock.bytes + minimum + overhead, prices.storage, table) * months
}
