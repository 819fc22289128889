import { formatDuration } from '../config/units.ts'
import type { CostItem, CostKind, Estimate } from '../domain/cost.ts'
import type { OneOffCosts } from '../domain/cost-change.ts'
import type { CostSettings } from '../domain/cost-usage.ts'
import type { Failure } from '../domain/errors.ts'
import { monthSeconds, type PriceTable } from '../domain/prices.ts'
import { formatBytes, oneLine, printable, table } from './format.ts'

export interface CostReport {
  readonly repository: string
  /** Null: none are configured for it. */
  readonly prices: PriceTable | null
  readonly budget: number | null
  readonly estimates: {
    readonly today: Estimate
    readonly steady: Estimate
    readonly whatIf: {
      readonly settings: CostSettings
      readonly steady: Estimate
      readonly once: OneOffCosts
    } | null
  } | null
}

/** Prices that are older are told of. */
const oldMs = 400 * 86_400_000

const words: Readonly<Record<CostKind, string>> = {
  storage: 'storage',
  'minimum-size': 'minimum size',
  overhead: 'overhead of objects',
  'early-deletion': 'early deletion',
  monitoring: 'monitoring',
  writes: 'writes and listings',
  reads: 'reads and looks',
  retrieval: 'retrieval',
  'transfer-out': 'transfer out',
  fixed: 'fixed',
}

const bytesKinds: readonly CostKind[] = [
  'storage',
  'minimum-size',
  'overhead',
  'early-deletion',
  'retrieval',
  'transfer-out',
]

/** For people. */
export function describeCosts(reports: readonly CostReport[], now: Date): string {
  return reports.map((report) => describe(report, now)).join('\n')
}

function describe({ repository, prices, budget, estimates }: CostReport, now: Date): string {
  const name = printable(repository)
  if (prices === null || estimates === null) return `${name}: no prices are configured for it, nothing is estimated\n`
  const { today, steady, whatIf } = estimates
  const columns = [today, steady, ...(whatIf === null ? [] : [whatIf.steady])]
  const head = ['  A MONTH', 'CLASS', 'TODAY', 'WHEN FULL', ...(whatIf === null ? [] : ['WHAT IF, WHEN FULL'])]
  const rows = keysOf(columns).map(({ kind, storageClass }) => [
    `  ${words[kind]}`,
    storageClass ?? '',
    ...columns.map(({ items }) =>
      cellOf(items.find((item) => item.kind === kind && item.storageClass === storageClass)),
    ),
  ])
  const total = ['  total', '', ...columns.map(totalOf)]
  const gigabyte = prices.gigabyteBytes === 2 ** 30 ? '2^30' : '10^9'
  const source = `${oneLine(prices.source)}, ${prices.asOf}`
  const lines = [
    `${name}: by the prices ${printable(prices.name)} (${source}); a gigabyte is ${gigabyte} bytes, a month 730 hours\n`,
    table([head, ...rows, total]),
    ...notesOf(columns).map((note) => `  ${note}\n`),
    ...(prices.transferOut === null ? ['  not estimated: transfer out (costs.prices[].transferOut)\n'] : []),
    ...(now.getTime() - Date.parse(`${prices.asOf}T00:00:00Z`) > oldMs
      ? ['  the prices are more than a year old\n']
      : []),
    ...(budget === null ? [] : [`  ${budgetOf(budget, columns)}\n`]),
    ...(whatIf === null ? [] : onceOf(whatIf.once, whatIf.settings).map((line) => `  ${line}\n`)),
  ]
  return lines.join('')
}

function budgetOf(budget: number, [today, steady]: readonly Estimate[]): string {
  const when = [
    ...((today?.dollars ?? 0) > budget ? ['today'] : []),
    ...((steady?.dollars ?? 0) > budget ? ['when full'] : []),
  ]
  const over = when.length === 0 ? '' : `, which is exceeded ${when.join(' and ')}`
  return `budget: ${formatDollars(budget)} a month${over}`
}

function keysOf(estimates: readonly Estimate[]): readonly Pick<CostItem, 'kind' | 'storageClass'>[] {
  const seen = new Map<string, Pick<CostItem, 'kind' | 'storageClass'>>()
  for (const kind of Object.keys(words))
    for (const { items } of estimates)
      for (const item of items) if (item.kind === kind) seen.set(`${kind} ${item.storageClass}`, item)
  return [...seen.values()]
}

function cellOf(item: CostItem | undefined): string {
  if (item === undefined) return ''
  const amount = item.kind === 'fixed' ? '' : ` (${quantityOf(item)})`
  return `${item.dollars === null ? 'no price' : formatDollars(item.dollars)}${amount}`
}

function quantityOf({ kind, quantity }: CostItem): string {
  return bytesKinds.includes(kind) ? formatBytes(Math.round(quantity)) : Math.round(quantity).toLocaleString('en-US')
}

function totalOf({ dollars, isWhole }: Estimate): string {
  if (dollars === null) return 'not known'
  return `${isWhole ? '' : 'at least '}${formatDollars(dollars)}`
}

/** What makes an estimate less than the whole. */
function notesOf(estimates: readonly Estimate[]): readonly string[] {
  const unpriced = estimates.flatMap(({ items }) =>
    items
      .filter(({ dollars }) => dollars === null)
      .map(
        ({ kind, storageClass }) =>
          `not estimated: ${words[kind]} of ${storageClass}, for which the table has no price`,
      ),
  )
  const unknown = estimates.flatMap((one) => one.unknown.map((what) => `not known: ${what}`))
  return [...new Set([...unpriced, ...unknown])]
}

function onceOf({ removal, move }: OneOffCosts, { classes }: CostSettings): readonly string[] {
  const dollars = (value: number | null) =>
    value === null ? 'not estimated, since a price is missing' : formatDollars(value)
  const removed =
    removal.backups === 0
      ? []
      : [
          `once: ${removal.backups} backups would go at once, and be billed until their minimum duration: ${dollars(removal.dollars)}`,
        ]
  if (move === null) return removed
  const way = move.way === 'copy' ? 'read and written anew' : 'moved by a rule of the bucket'
  return [
    ...removed,
    `once, if what is stored is ${way} to ${classes.backups}: ${dollars(move.dollars)} for ${move.objects} objects (${formatBytes(move.bytes)}), of it ${dollars(move.early)} for leaving their class early`,
    'lifeboat moves nothing: new backups would get the class, the others go as they expire',
  ]
}

/** Dollars for people: cents, and more digits where there are none. */
export function formatDollars(dollars: number): string {
  if (dollars === 0) return '$0'
  if (dollars < 0.000001) return 'below $0.000001'
  return dollars < 0.1 ? `$${Number(dollars.toPrecision(2)).toFixed(6).replace(/0+$/, '')}` : `$${dollars.toFixed(2)}`
}

/** For programs. */
export function costReportJson(reports: readonly CostReport[], failures: readonly Failure[], at: Date) {
  return {
    at: at.toISOString(),
    currency: 'USD',
    monthSeconds,
    repositories: reports.map(({ repository, prices, budget, estimates }) => ({
      repository,
      prices:
        prices === null
          ? null
          : {
              name: prices.name,
              asOf: prices.asOf,
              source: prices.source,
              gigabyteBytes: prices.gigabyteBytes,
              transferOut: prices.transferOut !== null,
            },
      budget,
      today: estimates?.today ?? null,
      whenFull: estimates?.steady ?? null,
      whatIf:
        estimates === null || estimates.whatIf === null
          ? null
          : {
              retention: durationsOf(estimates.whatIf.settings),
              classes: estimates.whatIf.settings.classes,
              whenFull: estimates.whatIf.steady,
              once: estimates.whatIf.once,
            },
    })),
    failures,
  }
}

function durationsOf({ retention: { keepForSeconds, keepAtLeast }, walKeepForSeconds }: CostSettings) {
  const written = (seconds: number | null) => (seconds === null ? 'forever' : formatDuration(seconds * 1000))
  return { keepFor: written(keepForSeconds), keepAtLeast, walKeepFor: written(walKeepForSeconds) }
}
