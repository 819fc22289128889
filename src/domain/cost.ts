import { billedBytes, type ClassPrices, type PriceTable, perThousand, storageDollars } from './prices.ts'

/** Objects of one storage class; means of a month may be fractions. */
export interface Stock {
  readonly storageClass: string
  readonly objects: number
  readonly bytes: number
}

/** What is done in a month to objects of one storage class. */
export interface Work {
  readonly storageClass: string
  /** Requests that write or list. */
  readonly puts: number
  /** Requests that read or look. */
  readonly gets: number
  readonly readBytes: number
}

/** All that a bill depends on. */
export interface Usage {
  /** What is stored, in the mean of the month. */
  readonly stored: readonly Stock[]
  /** What is removed already, and still billed, since it was younger than the minimum duration of its class. */
  readonly removedEarly: readonly Stock[]
  readonly work: readonly Work[]
  /** What is not known yet, and so not in the estimate: lower-case words. */
  readonly unknown: readonly string[]
}

export const costKinds = [
  'storage',
  'minimum-size',
  'overhead',
  'early-deletion',
  'monitoring',
  'writes',
  'reads',
  'retrieval',
  'transfer-out',
  'fixed',
] as const
export type CostKind = (typeof costKinds)[number]

/** One line of a bill. */
export interface CostItem {
  readonly kind: CostKind
  /** Null for what depends on no class. */
  readonly storageClass: string | null
  /** Bytes, requests, or objects; of `fixed` 1. */
  readonly quantity: number
  /** Null: the table has no price for it. */
  readonly dollars: number | null
}

export interface Estimate {
  readonly items: readonly CostItem[]
  /** Of all that has a price; null: nothing is known at all. */
  readonly dollars: number | null
  /** Everything is known and has a price: otherwise it costs more than `dollars`. */
  readonly isWhole: boolean
  /** See `Usage`. */
  readonly unknown: readonly string[]
}

/** What a month costs. What the table has no price for is an item without dollars, never one of 0. */
export function estimateCost(usage: Usage, table: PriceTable): Estimate {
  const items = [
    ...usage.stored.flatMap((stock) => storedItems(stock, table)),
    ...usage.removedEarly.map((stock) => earlyItem(stock, table)),
    ...usage.work.flatMap((work) => workItems(work, table)),
    ...transferItem(usage.work, table),
    ...(table.fixed > 0 ? [{ kind: 'fixed' as const, storageClass: null, quantity: 1, dollars: table.fixed }] : []),
  ]
  const summed = sumItems(items.filter(({ quantity }) => quantity > 0))
  const isKnown = usage.stored.length > 0 || usage.unknown.length === 0 || summed.length > 0
  const dollars = summed.reduce((sum, item) => sum + (item.dollars ?? 0), 0)
  return {
    items: summed,
    dollars: isKnown ? dollars : null,
    isWhole: usage.unknown.length === 0 && summed.every((item) => item.dollars !== null),
    unknown: usage.unknown,
  }
}

function storedItems(stock: Stock, table: PriceTable): CostItem[] {
  const { storageClass, objects, bytes } = stock
  const prices = table.classes.get(storageClass)
  const item = (kind: CostKind, quantity: number): CostItem => ({
    ...{ kind, storageClass, quantity },
    dollars: prices === undefined ? null : storageDollars(quantity, prices.storage, table),
  })
  if (prices === undefined) return [item('storage', bytes)]
  const { minimum, overhead } = billedBytes(stock, prices)
  const monitoring = prices.monitoring === 0 ? 0 : objects
  return [
    item('storage', bytes),
    item('minimum-size', minimum),
    item('overhead', overhead),
    { kind: 'monitoring', storageClass, quantity: monitoring, dollars: perThousand(monitoring, prices.monitoring) },
  ]
}

function earlyItem(stock: Stock, table: PriceTable): CostItem {
  const { storageClass, bytes } = stock
  const prices = table.classes.get(storageClass)
  const kind = 'early-deletion'
  if (prices === undefined) return { kind, storageClass, quantity: bytes, dollars: null }
  const { minimum, overhead } = billedBytes(stock, prices)
  const quantity = bytes + minimum + overhead
  return { kind, storageClass, quantity, dollars: storageDollars(quantity, prices.storage, table) }
}

function workItems({ storageClass, puts, gets, readBytes }: Work, table: PriceTable): CostItem[] {
  const prices = table.classes.get(storageClass)
  const priced = (price: keyof Pick<ClassPrices, 'put' | 'get' | 'retrieval'>, of: (price: number) => number) => {
    const found = prices?.[price] ?? null
    return found === null ? null : of(found)
  }
  return [
    { kind: 'writes', storageClass, quantity: puts, dollars: priced('put', (price) => perThousand(puts, price)) },
    { kind: 'reads', storageClass, quantity: gets, dollars: priced('get', (price) => perThousand(gets, price)) },
    {
      ...{ kind: 'retrieval', storageClass, quantity: readBytes },
      dollars: priced('retrieval', (price) => storageDollars(readBytes, price, table)),
    },
  ]
}

/** Only where it is asked for: whoever reads within the provider's region pays nothing for it. */
function transferItem(work: readonly Work[], table: PriceTable): CostItem[] {
  if (table.transferOut === null) return []
  const quantity = work.reduce((sum, { readBytes }) => sum + readBytes, 0)
  const dollars = storageDollars(quantity, table.transferOut, table)
  return [{ kind: 'transfer-out', storageClass: null, quantity, dollars }]
}

/** One item for each kind and class, in the order of the kinds. */
function sumItems(items: readonly CostItem[]): CostItem[] {
  const sums = new Map<string, CostItem>()
  for (const item of items) {
    const key = `${item.kind} ${item.storageClass ?? ''}`
    const known = sums.get(key)
    if (known === undefined) sums.set(key, item)
    else {
      const dollars = known.dollars === null || item.dollars === null ? null : known.dollars + item.dollars
      sums.set(key, { ...known, quantity: known.quantity + item.quantity, dollars })
    }
  }
  const place = ({ kind }: CostItem) => costKinds.indexOf(kind)
  return [...sums.values()].sort(
    (a, b) => place(a) - place(b) || ((a.storageClass ?? '') < (b.storageClass ?? '') ? -1 : 1),
  )
}
