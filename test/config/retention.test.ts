import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { defaultRetention } from '../support/catalog.ts'
import { badKeys, refusal } from './support.ts'

const config = (retention: string) =>
  `cluster: main\nrepositories: [{ name: a, url: "file:///srv/a", retention: ${retention} }, { name: b, url: "file:///srv/b" }]\n`

await t.test('a policy for each repository', async (t) => {
  const text = config('{ keepFor: 90d, keepAtLeast: 3, window: 2w, daily: 7, weekly: 5, monthly: 12, yearly: 10 }')
  const { repositories, schedule } = await loadConfig({ text, env: {} })
  t.same(repositories[0]?.retention, {
    keepForSeconds: 90 * 86_400,
    keepAtLeast: 3,
    windowSeconds: 14 * 86_400,
    daily: 7,
    weekly: 5,
    monthly: 12,
    yearly: 10,
  })
  t.same(repositories[1]?.retention, defaultRetention, 'left out')
  t.equal(schedule.expire, '0 5 * * *')
  const off = await loadConfig({ text: `${config('{ keepFor: forever }')}schedule: { expire: off }\n`, env: {} })
  t.same(off.repositories[0]?.retention, { ...defaultRetention, keepForSeconds: null })
  t.equal(off.schedule.expire, null)
  t.same((await loadConfig({ text: config('{}'), env: {} })).repositories[0]?.retention, defaultRetention)
})

await t.test('how long WAL stays', async (t) => {
  const seconds = async (retention: string) =>
    (await loadConfig({ text: config(retention), env: {} })).repositories[0]?.walKeepForSeconds
  t.equal(await seconds('{}'), 30 * 86_400)
  t.equal(await seconds('{ keepFor: 90d }'), 90 * 86_400, 'as backups')
  t.equal(await seconds('{ keepFor: 90d, walKeepFor: 2w }'), 14 * 86_400)
  t.equal(await seconds('{ keepFor: 1d, walKeepFor: 2w }'), 14 * 86_400, 'longer than backups')
  t.equal(await seconds('{ keepFor: forever }'), null)
  t.equal(await seconds('{ keepFor: forever, walKeepFor: 2w }'), 14 * 86_400)
  t.equal(await seconds('{ keepFor: 1d, walKeepFor: forever }'), null)
  const watch = 'cluster: a\nwatch: [{ directory: /srv, pattern: "{database}", retention: { walKeepFor: 1d } }]\n'
  t.same(await badKeys(watch), ['watch[0].retention.walKeepFor'], 'files have no WAL')
})

await t.test('what cannot be meant', async (t) => {
  const at = (key: string) => `repositories[0].retention.${key}`
  const bad: [string, string][] = [
    ['{ keepFor: 30 }', 'keepFor'],
    ['{ keepFor: 0s }', 'keepFor'],
    ['{ keepFor: ever }', 'keepFor'],
    ['{ keepFor: -3d }', 'keepFor'],
    ['{ keepAtLeast: 0 }', 'keepAtLeast'],
    ['{ keepAtLeast: 1.5 }', 'keepAtLeast'],
    ['{ daily: -1 }', 'daily'],
    ['{ window: 31d }', 'window'],
    ['{ keepFor: forever, window: 1d }', 'window'],
    ['{ keepFor: forever, monthly: 1 }', 'monthly'],
    ['{ keep: 30d }', 'keep'],
    ['{ walKeepFor: 30m }', 'walKeepFor'],
    ['{ walKeepFor: ever }', 'walKeepFor'],
  ]
  for (const [retention, key] of bad) t.same(await badKeys(config(retention)), [at(key)], retention)
  const { problems } = await refusal({ text: config('{ keepFor: 7d, window: 14d }'), env: {} })
  t.match(problems, [{ message: /is longer than keepFor, 7d/, hint: /Make keepFor at least 14d/ }])
  await t.resolves(loadConfig({ text: config('{ keepFor: 14d, window: 14d }'), env: {} }))
})
