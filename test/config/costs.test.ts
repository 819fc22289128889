import { readFile } from 'node:fs/promises'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { costSettingsOf } from '../../src/config/cost-settings.ts'
import { loadConfig } from '../../src/config/load.ts'
import { runsPerSecond } from '../../src/config/schedule.ts'
import { costsOf } from '../../src/costs.ts'
import { badKeys, minimal, refusal } from './support.ts'

const table = (more = '', classes = '[{ class: STANDARD, storage: 0.05 }]') =>
  `{ name: disk, asOf: "2026-11-20", source: a page, classes: ${classes}${more} }`
const config = (tables: string, more = 'prices: disk') =>
  `cluster: main\ncosts: { prices: [${tables}] }\nrepositories: [{ name: a, url: "file:///srv/a", ${more} }]\n`
const counting = { clock: systemClock, requests: () => [] }
const load = async (text: string) => (await loadConfig({ text, env: {} })).repositories[0]

t.test('a table, and a repository that names it', async (t) => {
  const found = await load(config(table(), 'prices: disk, monthlyBudget: 12.5'))
  t.match(found, {
    monthlyBudget: 12.5,
    prices: {
      ...{ name: 'disk', asOf: '2026-11-20', source: 'a page', transferOut: null, fixed: 0 },
      gigabyteBytes: 2 ** 30,
    },
  })
  const none = { put: null, get: null, retrieval: null, transition: null }
  t.same(
    [...(found?.prices?.classes ?? [])],
    [
      [
        'STANDARD',
        {
          ...{ storageClass: 'STANDARD', storage: 0.05, ...none },
          ...{ monitoring: 0, minimumSeconds: 0, minimumBytes: 0, overheadBytes: 0 },
        },
      ],
    ],
  )
  const full =
    '[{ class: IA, storage: 1e-3, put: 0, get: 2, retrieval: 0.5, transition: 1, monitoring: 3, minimumDuration: 30d, minimumSize: 128KiB, overhead: 8KiB }]'
  const prices = (await load(config(table(', gigabyte: GB, transferOut: 0.09, fixed: 50', full))))?.prices
  t.match(prices, { gigabyteBytes: 1e9, transferOut: 0.09, fixed: 50 })
  t.match(prices?.classes.get('IA'), {
    ...{ storage: 0.001, put: 0, get: 2, retrieval: 0.5, transition: 1, monitoring: 3 },
    ...{ minimumSeconds: 30 * 86_400, minimumBytes: 131_072, overheadBytes: 8192 },
  })
  t.match(await load(minimal), { prices: null, monthlyBudget: null })
})

t.test('what cannot be meant', async (t) => {
  const at = (key: string) => `costs.prices[0].${key}`
  for (const [text, ...keys] of [
    [config(table(', fixed: -1')), at('fixed')],
    [config(table(', fixed: .inf')), at('fixed')],
    [config(table(', fixed: "5"')), at('fixed')],
    [config(table(', fixed: 1000001')), at('fixed')],
    [config(table(', gigabyte: KiB')), at('gigabyte')],
    [config(table('', '[]')), at('classes')],
    [config(table('', '[{ class: STANDARD, storage: $0.023 }]')), at('classes[0].storage')],
    [config(table('', '[{ class: STANDARD }]')), at('classes[0].storage')],
    [config(table('', '[{ class: "a b", storage: 1 }]')), at('classes[0].class')],
    [config(table('', '[{ class: A, storage: 1 }, { class: A, storage: 2 }]')), at('classes[1].class')],
    [config(table('', '[{ class: A, storage: 1, minimumDuration: 90 }]')), at('classes[0].minimumDuration')],
    [config(table().replace('2026-11-20', '2026-02-30')), at('asOf')],
    [config(table().replace('"2026-11-20"', 'yesterday')), at('asOf')],
    [config(table().replace('a page', '"a\\u001bpage"')), at('source')],
    [config(table().replace('asOf: "2026-11-20", ', '')), at('asOf')],
    [config(`${table()}, ${table()}`), 'costs.prices[1].name'],
    [config(table(), 'prices: aws'), 'repositories[0].prices'],
    [config(table(), 'monthlyBudget: 5'), 'repositories[0].monthlyBudget'],
    [config(table(), 'prices: disk, monthlyBudget: -5'), 'repositories[0].monthlyBudget'],
  ] as const)
    t.same(await badKeys(text), keys, text)
  const { problems } = await refusal({ text: config(table(), 'prices: aws'), env: {} })
  t.match(problems, [{ message: /not the name of a table/, hint: 'There are: disk.' }])
  const { problems: none } = await refusal({ text: config('', 'prices: aws'), env: {} })
  t.match(none, [{ hint: /docs\/cost\.md has an example/ }])
})

t.test('how often a schedule fires', async (t) => {
  const perDay = (cron: string) => Number((runsPerSecond(cron) * 86_400).toFixed(6))
  t.equal(perDay('0 2 * * *'), 1)
  t.equal(perDay('0 */6 * * *'), 4)
  t.equal(perDay('0 4 * * 0'), Number((1 / 7).toFixed(6)))
  t.equal(perDay('*/5 * * * *'), 288)
  t.ok(Math.abs(perDay('0 2 * * 1-5') - 5 / 7) < 0.01)
  t.ok(Math.abs(perDay('0 2 1 * *') - 12 / 365.25) < 0.001)
  t.ok(perDay('0 2 29 2 *') > 0.0005 && perDay('0 2 29 2 *') < 0.0008, 'every four years')
})

t.test('what the configuration says of the cost', async (t) => {
  const loaded = await loadConfig({
    text: `${config(table(), 'prices: disk, monthlyBudget: 3')}wal: { archive: /srv/wal }\nschedule: { full: "0 3 * * 0", verify: off }\n`,
    env: {},
  })
  const [one] = loaded.repositories
  if (one === undefined) return t.fail('there is one')
  const settings = costSettingsOf(loaded, one)
  t.match(settings, {
    ...{ bucket: null, verification: { perMonth: null }, rates: { incremental: null }, walKeepForSeconds: 30 * 86_400 },
    classes: { backups: 'STANDARD', wal: 'STANDARD', others: 'STANDARD' },
  })
  t.ok(Math.abs((settings.rates.dump ?? 0) - 730 / 24) < 1e-6)
  t.same([...costsOf(loaded, counting).budgets], [['a', 3]])
  const bucket = await loadConfig({
    text: 'cluster: a\nrepositories: [{ name: b, url: "s3://bucket", storageClass: STANDARD_IA, walStorageClass: ONEZONE_IA, objectLock: { for: 120d } }]\nlease: { ttl: 3m }\n',
    env: {},
  })
  const [other] = bucket.repositories
  if (other === undefined) return t.fail('there is one')
  t.match(costSettingsOf(bucket, other), {
    classes: { backups: 'STANDARD_IA', wal: 'ONEZONE_IA', others: 'STANDARD' },
    retention: { keepForSeconds: 120 * 86_400 },
    bucket: { partBytes: 20 * 2 ** 20, leaseRenewalsPerMonth: 43_800, looksPerMonth: 43_800, counted: null },
  })
  t.equal(costsOf(bucket, counting).budgets.size, 0)
})

t.test('the example of docs/cost.md is accepted', async (t) => {
  const page = await readFile(new URL('../../docs/cost.md', import.meta.url), 'utf8')
  const [, block = ''] = /^```yaml\n(.*?)^```$/ms.exec(page) ?? []
  const [bucket, disk] = (await loadConfig({ text: `cluster: main\n${block}`, env: {} })).repositories
  t.match([bucket?.prices?.classes.has('GLACIER_IR'), disk?.prices?.fixed], [true, 50])
})
