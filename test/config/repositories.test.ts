import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { minimal, refusal } from './support.ts'

const one = (more: string, url = 's3://bucket/prod') =>
  `cluster: main\nrepositories: [{ name: x, url: "${url}"${more === '' ? '' : `, ${more}`} }]\n`
const bucketOf = async (more: string) => (await loadConfig({ text: one(more), env: {} })).repositories[0]?.bucket

t.test('a bucket, with what follows from an endpoint', async (t) => {
  t.match(await bucketOf(''), {
    ...{ bucket: 'bucket', prefix: 'prod/', region: null, endpoint: null, pathStyle: false, keys: null },
    ...{ storageClass: 'GLACIER_IR', walStorageClass: null, checksum: 'sha256', tags: {}, objectLock: null },
    ...{ serverSideEncryption: null, kmsKeyId: null, partBytes: 20 * 2 ** 20, parallel: 4 },
  })
  t.match(await bucketOf('endpoint: "http://127.0.0.1:9000"'), { storageClass: null, checksum: 'md5' })
  const own = 'endpoint: "http://127.0.0.1:9000", partSize: 64MiB, parallel: 8, storageClass: GLACIER_IR'
  t.match(await bucketOf(own), {
    ...{ endpoint: 'http://127.0.0.1:9000', region: 'us-east-1', pathStyle: true },
    ...{ partBytes: 64 * 2 ** 20, parallel: 8, storageClass: 'GLACIER_IR' },
  })
  t.match(await bucketOf('endpoint: "https://s3.example.com/", pathStyle: false, region: eu-central-1'), {
    ...{ region: 'eu-central-1', pathStyle: false },
  })
  t.equal((await loadConfig({ text: minimal, env: {} })).repositories[0]?.bucket, null)
})

t.test('tags, and how long things stay and are locked', async (t) => {
  t.same((await bucketOf('tags: ["team=dba", "a b=c=d", "ü="]'))?.tags, { team: 'dba', 'a b': 'c=d', ü: '' })
  const day = 86_400
  for (const [more, keepFor, wal, lock] of [
    ['', 90, 90, null],
    ['retention: { window: 60d }', 90, 90, null],
    ['retention: { walKeepFor: 14d }', 90, 14, null],
    ['objectLock: { for: 30d }', 90, 90, { mode: 'governance', forSeconds: 30 * day, legalHold: false }],
    ['objectLock: { for: 120d, mode: compliance }', 90, 120, { mode: 'compliance', forSeconds: 120 * day }],
    ['objectLock: { for: 30d }, retention: { walKeepFor: 14d }', 90, 30, {}],
    ['objectLock: { legalHold: true }, retention: { walKeepFor: 14d }', 90, 14, { forSeconds: null, legalHold: true }],
  ] as const) {
    const [repository] = (await loadConfig({ text: one(more), env: {} })).repositories
    t.equal(repository?.retention.keepForSeconds, keepFor * day, more)
    t.equal(repository?.walKeepForSeconds, wal * day, more)
    t.match(repository?.bucket?.objectLock, lock, more)
  }
  const [local] = (await loadConfig({ text: one('', 'file:///srv/x'), env: {} })).repositories
  t.match(local, { retention: { keepForSeconds: 30 * day }, walKeepForSeconds: 30 * day })
  const forever = 'objectLock: { for: 30d }, retention: { keepFor: forever }'
  t.equal((await loadConfig({ text: one(forever), env: {} })).repositories[0]?.walKeepForSeconds, null)
})

t.test('keys from files, read again each time', async (t) => {
  const directory = t.testdir({ id: 'ID\n', secret: 'SECRET', empty: '' })
  const { chmod, writeFile } = await import('node:fs/promises')
  for (const name of ['id', 'secret', 'empty']) await chmod(join(directory, name), 0o600)
  const files = (id: string, secret: string) =>
    `accessKeyIdFile: ${join(directory, id)}, secretAccessKeyFile: ${join(directory, secret)}`
  const bucket = await bucketOf(files('id', 'secret'))
  t.same(await bucket?.keys?.(), { accessKeyId: 'ID', secretAccessKey: 'SECRET' })
  await writeFile(join(directory, 'id'), 'ROTATED')
  t.same(await bucket?.keys?.(), { accessKeyId: 'ROTATED', secretAccessKey: 'SECRET' })
  t.notMatch(JSON.stringify(bucket), 'SECRET')
  // The other repositories do not need them.
  for (const [more, message] of [
    [files('id', 'none'), /none cannot be read/],
    [files('empty', 'secret'), /empty is empty/],
  ] as const)
    await t.rejects(async () => void (await (await bucketOf(more))?.keys?.()), { code: 'config-invalid', message })
  const { problems } = await refusal({ text: one(`accessKeyIdFile: ${join(directory, 'id')}`), env: {} })
  t.match(problems, [{ key: 'repositories[0].accessKeyIdFile' }])
  t.equal(problems.length, 1)
})

t.test('limits of the bandwidth', async (t) => {
  const rules = async (more: string, url?: string) =>
    (await loadConfig({ text: one(more, url), env: {} })).repositories[0]?.bandwidth
  t.same(await rules(''), [])
  t.same(await rules('bandwidth: [{ limit: 20MiB }]', 'file:///srv/x'), [
    { direction: 'upload', bytesPerSecond: 20 * 2 ** 20, hours: null },
  ])
  const hours = 'from: 22:30, to: "06:00", timezone: Europe/Berlin'
  t.same(await rules(`bandwidth: [{ limit: 1MB, ${hours}, direction: download }]`), [
    { direction: 'download', bytesPerSecond: 1e6, hours: { from: 1350, to: 360, timezone: 'Europe/Berlin' } },
  ])
  for (const [rule, key, message] of [
    ['from: "08:00"', 'from', /to is not/],
    ['to: "08:00"', 'to', /from is not/],
    ['from: "08:00", to: "08:00"', 'to', /same time/],
    ['from: "8", to: "24:00"', 'from', /hours and minutes/],
    ['timezone: Mars/Olympus', 'timezone', /not a time zone/],
    ['direction: both', 'direction', /one of upload, download/],
  ] as const) {
    const { problems } = await refusal({ text: one(`bandwidth: [{ limit: 1MiB, ${rule} }]`), env: {} })
    t.match(problems[0], { key: `repositories[0].bandwidth[0].${key}`, message }, rule)
  }
  const { problems } = await refusal({ text: one('bandwidth: [{ limit: 31KiB }]'), env: {} })
  t.match(problems, [{ key: 'repositories[0].bandwidth[0].limit', message: /at least 32KiB/ }])
})

t.test('what contradicts itself', async (t) => {
  for (const [text, key, message] of [
    [one('region: x', 'file:///srv/x'), 'repositories[0].region', /is for buckets/],
    [one('parallel: 2', 'file:///srv/x'), 'repositories[0].parallel', /is for buckets/],
    [one('kmsKeyId: k'), 'repositories[0].kmsKeyId', /no effect/],
    [one('storageClass: DEEP_ARCHIVE'), 'repositories[0].storageClass', /read at once/],
    [one('endpoint: "https://user:hunter2@host"'), 'repositories[0].endpoint', /nothing else/],
    [one('endpoint: "https://host/path"'), 'repositories[0].endpoint', /nothing else/],
    [one('objectLock: { for: 30d }', 'file:///srv/x'), 'repositories[0].objectLock', /is for buckets/],
    [one('objectLock: { mode: compliance }'), 'repositories[0].objectLock', /neither/],
    [one('tags: [a=1, b=2, a=3]'), 'repositories[0].tags', /"a" twice/],
    [one(`tags: [${'abcdefghijk'.split('').join('=, ')}=]`), 'repositories[0].tags', /more than 10/],
    [one('tags: [none]'), 'repositories[0].tags[0]', /is not a tag/],
    [one('tags: ["=x"]'), 'repositories[0].tags[0]', /is not a tag/],
    [one('tags: ["AWS:x=y"]'), 'repositories[0].tags[0]', /is not a tag/],
    [one('tags: ["a=b\\nc"]'), 'repositories[0].tags[0]', /is not a tag/],
    [one(`tags: ["a=${'x'.repeat(257)}"]`), 'repositories[0].tags[0]', /is not a tag/],
    [one('walStorageClass: DEEP_ARCHIVE'), 'repositories[0].walStorageClass', /read at once/],
    [one('retention: { window: 91d }'), 'repositories[0].retention.window', /longer than keepFor, 90d/],
    [one('partSize: 4MiB'), 'repositories[0].partSize', /at least 5MiB/],
    [one('', 's3://bucket/a//b'), 'repositories[0].url', /prefix/],
  ] as const) {
    const { problems } = await refusal({ text, env: {} })
    t.match(problems, [{ key, message, hint: message.source.includes('at least') ? undefined : String }], text)
    t.notMatch(JSON.stringify(problems), 'hunter2')
  }
  const two = (a: string, b: string) =>
    `cluster: main\nrepositories: [{ name: a, url: "${a}" }, { name: b, url: "${b}" }]\n`
  for (const [a, b] of [
    ['s3://b-1/x', 's3://b-1/x/'],
    ['s3://b-1/x', 's3://b-1/x/y'],
    ['s3://b-1/x', 's3://b-1'],
  ] as const) {
    t.match((await refusal({ text: two(a, b), env: {} })).problems, [{ key: 'repositories[1].url' }], `${a} ${b}`)
  }
  t.ok(await loadConfig({ text: two('s3://b-1/x', 's3://b-1/xy'), env: {} }))
  t.ok(await loadConfig({ text: two('s3://b-1/x', 's3://b-2/x'), env: {} }))
})
