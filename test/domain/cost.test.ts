import fc from 'fast-check'
import t from 'tap'
import { type Estimate, estimateCost, type Stock, type Usage } from '../../src/domain/cost.ts'
import { billedBytes, monthSeconds, type PriceTable } from '../../src/domain/prices.ts'
import { classPrices, priceTable } from '../support/prices.ts'

const gibibyte = 2 ** 30
const usage = (fields: Partial<Usage>): Usage => ({ stored: [], removedEarly: [], work: [], unknown: [], ...fields })
const dollarsOf = ({ items }: Estimate, kind: string) => items.find((item) => item.kind === kind)?.dollars
const near = (
  t: Pick<typeof import('tap').default, 'ok'>,
  actual: number | null | undefined,
  expected: number,
  message?: string,
) => t.ok(Math.abs((actual ?? Number.NaN) - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), message ?? `${actual}`)

t.test('units: a gigabyte is what the provider says, requests go by the thousand, a month has 730 hours', async (t) => {
  const stored = [{ storageClass: 'STANDARD', objects: 1, bytes: 100 * gibibyte }]
  near(t, estimateCost(usage({ stored }), priceTable()).dollars, 2.3)
  const decimal = estimateCost(usage({ stored }), priceTable({ gigabyteBytes: 1e9 })).dollars
  near(t, decimal, 2.3 * 1.073741824, 'the same bytes are more gigabytes of 10^9')
  const work = [{ storageClass: 'STANDARD', puts: 2_500, gets: 10_000, readBytes: 0 }]
  const requests = estimateCost(usage({ work }), priceTable())
  near(t, dollarsOf(requests, 'writes'), 0.0125, '2.5 thousands of 0.005')
  near(t, dollarsOf(requests, 'reads'), 0.004)
  t.equal(monthSeconds / 86_400, 730 / 24)
})

t.test('a dump of 500 MB a day for 90 days, as worked out by hand', async (t) => {
  const bytes = 90 * 500e6
  const stored = [{ storageClass: 'GLACIER_IR', objects: 90, bytes }]
  const work = [
    { storageClass: 'GLACIER_IR', puts: 30, gets: 30, readBytes: 4 * 500e6 },
    { storageClass: 'STANDARD', puts: 100, gets: 100, readBytes: 0 },
  ]
  const found = estimateCost(usage({ stored, work }), priceTable())
  near(t, dollarsOf(found, 'storage'), (45e9 / gibibyte) * 0.004)
  near(t, dollarsOf(found, 'retrieval'), (2e9 / gibibyte) * 0.03)
  t.ok((found.dollars ?? 99) < 0.3, 'cents, not the $15 of an estimate that was guessed')
  t.ok(found.isWhole)
})

t.test('small objects are billed as larger ones, with what each adds', async (t) => {
  const prices = { minimumBytes: 128 * 1024, overheadBytes: 32 * 1024 }
  t.same(billedBytes({ objects: 10, bytes: 10 * 1000 }, prices), {
    minimum: 10 * (128 * 1024 - 1000),
    overhead: 10 * 32 * 1024,
  })
  t.equal(billedBytes({ objects: 10, bytes: 10 * 128 * 1024 }, prices).minimum, 0)
  t.equal(billedBytes({ objects: 0, bytes: 0 }, prices).minimum, 0)
  const stored = [{ storageClass: 'STANDARD_IA', objects: 1000, bytes: 1000 }]
  const found = estimateCost(usage({ stored }), priceTable())
  near(t, found.dollars, ((1000 * 128 * 1024) / gibibyte) * 0.0125, 'a thousand objects of one byte')
})

t.test('what has no price is told of, and is no zero', async (t) => {
  const work = [{ storageClass: 'STANDARD', puts: 1000, gets: 0, readBytes: 1000 }]
  const stored = [{ storageClass: 'STANDARD', objects: 1, bytes: gibibyte }]
  const table = priceTable({ classes: classPrices({ storageClass: 'STANDARD', storage: 0.05 }) })
  const found = estimateCost(usage({ stored, work }), table)
  t.match(found, { isWhole: false })
  near(t, found.dollars, 0.05, 'at least')
  t.equal(dollarsOf(found, 'writes'), null)
  t.equal(dollarsOf(found, 'retrieval'), null)
  t.notOk(
    found.items.some(({ kind }) => kind === 'reads'),
    'what does not happen needs no price',
  )
  const unknown = estimateCost(usage({ stored: [{ storageClass: 'TAPE', objects: 1, bytes: 7 }] }), table)
  t.match(unknown, { isWhole: false, items: [{ kind: 'storage', storageClass: 'TAPE', quantity: 7, dollars: null }] })
})

t.test('nothing known is unknown, not free', async (t) => {
  const found = estimateCost(usage({ unknown: ['nothing is stored yet'] }), priceTable())
  t.same(found, { items: [], dollars: null, isWhole: false, unknown: ['nothing is stored yet'] })
  const disk = estimateCost(usage({ unknown: ['nothing is stored yet'] }), priceTable({ fixed: 50 }))
  t.match(disk, { dollars: 50, isWhole: false }, 'a disk is paid for all the same')
})

t.test('transfer out only where it is asked for, fixed and monitored prices', async (t) => {
  const work = [
    { storageClass: 'STANDARD', puts: 0, gets: 1, readBytes: gibibyte },
    { storageClass: 'GLACIER_IR', puts: 0, gets: 1, readBytes: 2 * gibibyte },
  ]
  t.equal(dollarsOf(estimateCost(usage({ work }), priceTable()), 'transfer-out'), undefined)
  near(t, dollarsOf(estimateCost(usage({ work }), priceTable({ transferOut: 0.09 })), 'transfer-out'), 0.27)
  const classes = classPrices({ storageClass: 'TIERED', storage: 0, monitoring: 0.0025 })
  const stored = [{ storageClass: 'TIERED', objects: 4000, bytes: 1 }]
  near(t, dollarsOf(estimateCost(usage({ stored }), priceTable({ classes })), 'monitoring'), 0.01)
})

const classNames = ['STANDARD', 'STANDARD_IA', 'GLACIER_IR']
const stock = fc.record({
  storageClass: fc.constantFrom(...classNames),
  objects: fc.integer({ min: 1, max: 1_000_000 }),
  bytes: fc.integer({ min: 0, max: 2 ** 45 }),
})
const work = fc.record({
  storageClass: fc.constantFrom(...classNames),
  puts: fc.nat(1e9),
  gets: fc.nat(1e9),
  readBytes: fc.nat(2 ** 31 - 1),
})
const anyUsage = fc.record({
  stored: fc.array(stock, { maxLength: 6 }),
  removedEarly: fc.array(stock, { maxLength: 3 }),
  work: fc.array(work, { maxLength: 6 }),
  unknown: fc.constant([]),
})

t.test('properties', async (t) => {
  const total = (one: Usage, table: PriceTable = priceTable()) => estimateCost(one, table).dollars ?? Number.NaN
  const isNear = (a: number, b: number) => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b))
  const holds = (
    name: string,
    ...[arbitrary, check]: [fc.Arbitrary<[Usage, Usage]>, (pair: [Usage, Usage]) => boolean]
  ) => t.test(name, async () => fc.assert(fc.property(arbitrary, check), { numRuns: 300 }))
  const pair = fc.tuple(anyUsage, anyUsage) as unknown as fc.Arbitrary<[Usage, Usage]>
  await holds('the items add up, and none is negative', pair, ([one]) => {
    const { items, dollars } = estimateCost(one, priceTable())
    const sum = items.reduce((all, item) => all + (item.dollars ?? Number.NaN), 0)
    return items.every((item) => (item.dollars ?? -1) >= 0 && item.quantity > 0) && isNear(sum, dollars ?? Number.NaN)
  })
  await holds('two usages never cost more together than apart, and each no more than both', pair, ([a, b]) => {
    const both = usage({
      stored: [...a.stored, ...b.stored],
      removedEarly: [...a.removedEarly, ...b.removedEarly],
      work: [...a.work, ...b.work],
    })
    return isNear(total(both), total(a) + total(b)) && total(both) >= total(a) * (1 - 1e-9)
  })
  await holds('twice the prices, twice the cost', pair, ([one]) => {
    const table = priceTable()
    const classes = new Map(
      [...table.classes].map(([name, prices]) => [
        name,
        {
          ...prices,
          ...{ storage: prices.storage * 2, put: (prices.put ?? 0) * 2 },
          ...{ get: (prices.get ?? 0) * 2, retrieval: (prices.retrieval ?? 0) * 2 },
        },
      ]),
    )
    return isNear(total(one, { ...table, classes }), total(one) * 2)
  })
  await holds('the order of stocks does not matter', pair, ([one]) =>
    isNear(total(one), total({ ...one, stored: one.stored.toReversed() as Stock[] })),
  )
})
