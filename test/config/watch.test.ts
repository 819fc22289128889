import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { isWatchOnly } from '../../src/config/validated.ts'
import { refusal } from './support.ts'

const repository = 'repositories: [{ name: local, url: "file:///var/backups/lifeboat" }]\n'

t.test('a directory alone is enough', async (t) => {
  const config = await loadConfig({ text: 'cluster: main\nwatch: [{ directory: "/var/backups/my dumps" }]', env: {} })
  t.ok(isWatchOnly(config))
  t.match(config.watch, [
    {
      name: 'my-dumps',
      directory: '/var/backups/my dumps',
      database: null,
      quietMs: 30_000,
      maxAgeSeconds: 26 * 3600,
      minBytes: 1,
      shrinkBelow: 0.5,
      inspectNewest: 10,
    },
  ])
  t.match(config.watch[0]?.match('spavix_backup_20260101_020000.sql.gz'), { database: 'spavix' })
  const both = await loadConfig({
    text: `cluster: main\n${repository}watch: [{ directory: /x, pattern: "*.sql", database: a }]`,
    env: {},
  })
  t.notOk(isWatchOnly(both))
  t.match(both.watch, [{ name: 'x', database: 'a' }])
})

t.test('every problem with its key', async (t) => {
  const { problems } = await refusal({
    text: `cluster: main
${repository}watch:
  - { directory: relative, pattern: "{date}.sql", quietTime: 30, shrinkBelow: half }
  - { directory: /a, pattern: "*.sql" }
  - { directory: /b/local }
  - { directory: /c, name: "../x", inspectNewest: 0 }
`,
    env: {},
  })
  t.same(
    problems.map(({ key }) => key),
    [
      'watch[0].directory',
      'watch[0].pattern',
      'watch[0].quietTime',
      'watch[0].shrinkBelow',
      'watch[3].name',
      'watch[3].inspectNewest',
      'watch[1].database',
      'watch[2].name',
    ],
  )
  t.match(problems[1], { message: 'has "{date}", which is no placeholder', hint: /\{timestamp\}/ })
  t.match(problems.at(-1), { message: /is "local", the name of a repository/ })
  const nothing = await refusal({ text: 'cluster: main', env: {} })
  t.match(nothing.problems, [{ key: 'repositories', message: 'is missing', hint: /under watch/ }])
})

t.test('files expire only where that is written', async (t) => {
  const watchOf = async (retention: string) => {
    const text = `cluster: main\nwatch: [{ directory: /x, database: a, pattern: "*"${retention} }]`
    return (await loadConfig({ text, env: {} })).watch[0]
  }
  t.equal((await watchOf(''))?.retention, null)
  t.match((await watchOf(', retention: {}'))?.retention, { keepForSeconds: 30 * 86_400, keepAtLeast: 7 })
  t.match((await watchOf(', retention: { keepFor: forever }'))?.retention, { keepForSeconds: null })
  const bad = 'cluster: main\nwatch: [{ directory: /x, database: a, retention: { keepFor: forever, daily: 3 } }]'
  t.match((await refusal({ text: bad, env: {} })).problems, [{ key: 'watch[0].retention.daily' }])
  t.equal((await watchOf(''))?.match('.lifeboat-expiring'), null, 'what is ours is no dump')
})

t.test('a bucket in which they are put', async (t) => {
  const config = await loadConfig({
    text: `cluster: main
watch:
  - { url: "s3://dumps/of/main", endpoint: "http://127.0.0.1:9000", pattern: "{year}/{month}/{day}/{database}{ext}", maxAge: 2d }
  - { url: "s3://dumps" , name: all, pattern: "*", database: app }
`,
    env: {},
  })
  t.ok(isWatchOnly(config))
  t.same(config.watch, [])
  t.match(config.watchedBuckets, [
    {
      ...{ name: 'main', maxAgeSeconds: 2 * 86_400, database: null },
      bucket: { bucket: 'dumps', prefix: 'of/main/', endpoint: 'http://127.0.0.1:9000', pathStyle: true },
    },
    { name: 'all', bucket: { prefix: '', pathStyle: false }, database: 'app' },
  ])
  t.match(config.watchedBuckets[0]?.match('2026/03/05/app.sql.gz'), { database: 'app' })
  const { problems } = await refusal({
    text: `cluster: main
watch:
  - { database: a }
  - { directory: /a, database: a, region: x }
  - { directory: /b, pattern: "{year}/{database}" }
  - { directory: /c, url: "s3://dumps", database: a }
  - { url: "file:///d", database: a }
  - { url: "s3://dumps/e", database: a, retention: {}, accessKeyIdFile: /no/such/file }
`,
    env: {},
  })
  t.same(
    problems.map(({ key, message }) => `${key} ${message.slice(0, 24)}`),
    [
      'watch[0].directory is missing',
      'watch[1].region is for buckets, and this',
      'watch[2].pattern must be the name of a fi',
      'watch[3].url is set, and directory to',
      'watch[4].url is no bucket',
      'watch[5].retention is for directories',
      'watch[5].accessKeyIdFile is set, and secretAccess',
    ],
  )
})
