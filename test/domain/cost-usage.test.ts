import t from 'tap'
import { noObjects, objectsOf } from '../../src/domain/backup-objects.ts'
import { estimateCost, type Stock } from '../../src/domain/cost.ts'
import { oneOffCosts } from '../../src/domain/cost-change.ts'
import { type CostBackup, type CostFacts, type CostSettings, usagesOf } from '../../src/domain/cost-usage.ts'
import { type BucketWork, countedPerMonth } from '../../src/domain/cost-work.ts'
import { monthSeconds } from '../../src/domain/prices.ts'
import { defaultRetention } from '../support/catalog.ts'
import { classPrices, priceTable } from '../support/prices.ts'

const day = 86_400
const [mebibyte, gibibyte] = [2 ** 20, 2 ** 30]
const daily = monthSeconds / day
const classes = { backups: 'GLACIER_IR', wal: 'STANDARD', others: 'STANDARD' }
const objects = { large: 1, largeBytes: gibibyte, small: 2, smallBytes: 4096 }

const settings = (fields: Partial<CostSettings> = {}): CostSettings => ({
  ...{ retention: defaultRetention, walKeepForSeconds: 30 * day, chainLimit: 8, classes, bucket: null },
  rates: { dump: daily, full: null, incremental: null },
  verification: { perMonth: null, level: 'data' },
  ...fields,
})
const dumps = (count: number): CostBackup[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `d${index}`,
    type: 'dump',
    ageSeconds: (index + 0.5) * day,
    objects,
  }))
const facts = (fields: Partial<CostFacts> = {}): CostFacts => ({
  ...{ backups: dumps(10), groups: [{ type: 'dump', newest: objects, verified: objects }], wal: null },
  ...fields,
})
const bytesIn = (stocks: readonly Stock[], name: string) =>
  stocks.filter(({ storageClass }) => storageClass === name).reduce((sum, { bytes }) => sum + bytes, 0)
const bucket: BucketWork = { partBytes: 20 * 2 ** 20, leaseRenewalsPerMonth: 0, looksPerMonth: 0, counted: null }

t.test('objects of a backup: what is small never gets a colder class', async (t) => {
  const artifact = (bytes: number) => ({ stored: { bytes, sha256: '' } })
  t.same(objectsOf([]), noObjects)
  t.same(objectsOf([artifact(131_071), artifact(131_072), artifact(10)]), {
    ...{ large: 1, largeBytes: 131_072, small: 2, smallBytes: 131_081 },
  })
})

t.test('today what is there, in the end what the retention leaves', async (t) => {
  const { today, steady } = usagesOf(facts(), settings(), priceTable())
  t.equal(bytesIn(today.stored, 'GLACIER_IR'), 10 * gibibyte)
  t.equal(bytesIn(today.stored, 'STANDARD'), 10 * 4096)
  t.equal(bytesIn(steady.stored, 'GLACIER_IR'), 30 * gibibyte)
  t.same([today.unknown, steady.unknown, today.work], [[], [], []], 'a directory is sent no requests')
})

t.test('early deletion: 30 days in a class that bills 90', async (t) => {
  const { today, steady } = usagesOf(facts(), settings(), priceTable())
  t.equal(bytesIn(steady.removedEarly, 'GLACIER_IR'), 60 * gibibyte, 'sixty of each ninety days')
  t.same(
    usagesOf(facts(), settings({ retention: { ...defaultRetention, keepForSeconds: 90 * day } }), priceTable()).steady
      .removedEarly,
    [],
    'ninety days bill no less and no more',
  )
  t.ok(bytesIn(today.removedEarly, 'GLACIER_IR') > 0, 'within this month the first go')
  t.ok(bytesIn(today.removedEarly, 'GLACIER_IR') < 60 * gibibyte)
  const young = usagesOf(facts({ backups: dumps(0) }), settings(), priceTable())
  t.same(
    young.today.removedEarly.filter(({ bytes }) => bytes > 2 * gibibyte),
    [],
    'none is old enough to go',
  )
  const old = usagesOf(facts({ backups: dumps(30) }), settings(), priceTable())
  t.equal(Math.round(bytesIn(old.today.removedEarly, 'GLACIER_IR') / gibibyte), 60, 'each day one goes')
})

t.test('nothing stored, nothing known', async (t) => {
  const { today, steady } = usagesOf({ backups: [], groups: [], wal: null }, settings(), priceTable())
  t.match(estimateCost(today, priceTable()), { dollars: null, isWhole: false, unknown: ['nothing is stored yet'] })
  t.match(estimateCost(steady, priceTable()), { dollars: null, isWhole: false, unknown: [/how large dumps are/] })
})

t.test('WAL: as long as it must stay, and where nobody knows how much comes', async (t) => {
  const wal = { objects: 10, bytes: 10 * mebibyte, perMonth: { objects: 730, bytes: 730 * mebibyte } }
  const perDay = (730 * mebibyte) / daily
  const stored = (fields: Partial<CostSettings>, more: Partial<CostFacts> = {}) =>
    bytesIn(
      usagesOf(facts({ backups: [], groups: [], wal, ...more }), settings(fields), priceTable()).steady.stored,
      'STANDARD',
    )
  t.equal(Math.round(stored({ walKeepForSeconds: 30 * day })), Math.round(30 * perDay))
  const full = { full: daily / 7, dump: null, incremental: null }
  t.ok(
    stored({ walKeepForSeconds: day, rates: full }) > 29 * perDay,
    'the oldest full backup that stays needs all after it',
  )
  const unknown = usagesOf(facts({ wal: { ...wal, perMonth: null } }), settings({ bucket }), priceTable())
  t.match([unknown.today.unknown, unknown.steady.unknown], [[/how much WAL/], [/how much WAL/]])
  const local = usagesOf(facts({ wal: { ...wal, perMonth: null } }), settings(), priceTable())
  t.same(local.today.unknown, [], 'a directory is billed by what is there')
  const cold = { classes: { ...classes, wal: 'GLACIER_IR' }, walKeepForSeconds: 30 * day }
  const early = (more: typeof wal) =>
    usagesOf(facts({ backups: [], groups: [], wal: more }), settings(cold), priceTable()).steady
  t.equal(Math.round(bytesIn(early(wal).removedEarly, 'GLACIER_IR')), Math.round(60 * perDay), 'WAL goes early, too')
  const tiny = { objects: 10, bytes: 10_000, perMonth: { objects: 730, bytes: 730_000 } }
  t.match(
    early(tiny),
    { stored: [{ storageClass: 'STANDARD' }], removedEarly: [] },
    'small segments do not get the class',
  )
  const endless = usagesOf(facts({ wal }), settings({ walKeepForSeconds: null }), priceTable())
  t.match(endless.steady.unknown, [/WAL never expires/])
})

t.test('what never expires, and what nobody schedules', async (t) => {
  const forever = { ...defaultRetention, keepForSeconds: null }
  const found = usagesOf(facts(), settings({ retention: forever }), priceTable()).steady
  t.match(found.unknown, [/never expire/])
  t.equal(bytesIn(found.stored, 'GLACIER_IR'), 10 * gibibyte, 'what is there, at least')
  const rates = { dump: null, full: null, incremental: null }
  const manual = usagesOf(facts(), settings({ rates }), priceTable()).steady
  t.equal(bytesIn(manual.stored, 'GLACIER_IR'), 10 * gibibyte, 'as many as now')
  t.same(manual.unknown, [])
})

t.test('requests and retrieval follow from the work', async (t) => {
  const verification = { perMonth: 4, level: 'data' as const }
  const { work } = usagesOf(facts(), settings({ bucket, verification }), priceTable()).today
  const sum = (name: string, key: 'puts' | 'gets' | 'readBytes') =>
    work.filter(({ storageClass }) => storageClass === name).reduce((all, one) => all + one[key], 0)
  const parts = Math.ceil(gibibyte / bucket.partBytes)
  t.equal(sum('GLACIER_IR', 'puts'), (parts + 2) * daily, 'begun, sent in parts, completed')
  t.equal(sum('GLACIER_IR', 'readBytes'), 4 * gibibyte, 'each week a backup is read whole')
  t.equal(sum('GLACIER_IR', 'gets'), daily + 4 * parts)
  t.equal(sum('STANDARD', 'puts'), 4 * daily, 'two small objects, the manifest and the claim')
  const seldom = usagesOf(
    facts(),
    settings({
      ...{ bucket, verification: { perMonth: 100, level: 'artifact' } },
      rates: { dump: 2, full: null, incremental: null },
    }),
    priceTable(),
  )
  const read = seldom.today.work.reduce((all, { readBytes }) => all + readBytes, 0)
  t.equal(read, 2 * (gibibyte + 4096), 'what has not changed is not read again at level artifact')
})

t.test('what goes on besides: derived, or as it was counted', async (t) => {
  const standing = (more: Partial<BucketWork>) =>
    usagesOf(facts(), settings({ bucket: { ...bucket, ...more } }), priceTable()).today.work.at(-1)
  t.match(standing({ leaseRenewalsPerMonth: 100, looksPerMonth: 1000 }), { puts: 200 + 3000, gets: 200 })
  const counted = standing({ counted: { puts: 1_000_000, gets: 500_000 } })
  const own = usagesOf(facts(), settings({ bucket }), priceTable()).today.work.slice(0, -1)
  const [puts, gets] = [own.reduce((all, one) => all + one.puts, 0), own.reduce((all, one) => all + one.gets, 0)]
  t.match(counted, { puts: 1_000_000 - puts, gets: 500_000 - gets })
  const sent = (operation: string, requests: number) => ({ operation, requests })
  const counts = [sent('PutObject', 5), sent('ListObjectsV2', 2), sent('HeadObject', 3), sent('DeleteObject', 100)]
  t.equal(countedPerMonth(counts, 6 * day), null, 'not for long enough')
  t.same(countedPerMonth(counts, monthSeconds * 2), { puts: 3.5, gets: 1.5 }, 'removals are free')
  t.match(standing({ counted: { puts: 1, gets: 1 } }), { puts: 0, gets: 0 }, 'never less than none')
})

t.test('what a change costs once', async (t) => {
  const table = priceTable()
  const to = { ...classes, backups: 'STANDARD_IA' }
  const none = new Set<string>()
  const same = oneOffCosts(facts(), { from: classes, to: classes, goes: none }, table)
  t.same(same, { removal: { backups: 0, dollars: 0 }, move: null })
  const [one] = dumps(1)
  const single = facts({ backups: one === undefined ? [] : [{ ...one, ageSeconds: 30 * day }] })
  const remaining = (60 * day * 0.004) / monthSeconds
  const removed = oneOffCosts(single, { from: classes, to: classes, goes: new Set(['d0']) }, table).removal
  t.equal(removed.backups, 1)
  t.ok(Math.abs((removed.dollars ?? 0) - remaining) < 1e-9, 'sixty of ninety days are left to be billed')
  const dearer = oneOffCosts(single, { from: classes, to, goes: none }, table).move
  t.match(dearer, { objects: 1, bytes: gibibyte, way: 'copy' })
  t.ok(Math.abs((dearer?.dollars ?? 0) - (remaining + 0.03 + 0.01 / 1000 + 0.01 / 1000)) < 1e-9)
  const colder = oneOffCosts(single, { from: to, to: classes, goes: none }, table).move
  t.match(colder, { way: 'transition', early: 0, dollars: 0.02 / 1000 })
  const poor = priceTable({
    classes: classPrices({ storageClass: 'STANDARD', storage: 1 }, { storageClass: 'STANDARD_IA', storage: 0.5 }),
  })
  const from = { ...classes, backups: 'STANDARD' }
  t.match(oneOffCosts(single, { from, to, goes: none }, poor).move, { dollars: null }, 'no price, no figure')
  t.match(oneOffCosts(single, { from: classes, to, goes: none }, poor).move, { early: null, dollars: null })
})
