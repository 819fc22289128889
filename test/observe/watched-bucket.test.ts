import t, { type Test } from 'tap'
import { compileKeyPattern } from '../../src/domain/file-pattern.ts'
import { WatchedBucket } from '../../src/observe/watched-bucket.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { fakeS3 } from '../support/fake-s3.ts'

const { signal } = new AbortController()
const minute = 60_000
const day = 24 * 60 * minute

async function watched(t: Test, pattern: string, database: string | null = null) {
  const clock = new FakeClock('2026-03-10T12:00:00.000Z')
  const server = await fakeS3(t, () => clock.now())
  const storage = new S3Storage({ settings: server.settings, random: () => 0 })
  const place = { name: 'offsite', pattern, match: compileKeyPattern(pattern), database }
  const bucket = new WatchedBucket({
    place: { ...place, quietMs: 30_000, maxAgeSeconds: 93_600, minBytes: 1, shrinkBelow: 0.5 },
    ...{ storage, clock, holds: () => new Map() },
  })
  return { clock, server, look: () => bucket.look(signal) }
}

t.test('dumps by day', async (t) => {
  const { clock, server, look } = await watched(t, 'dumps/{year}/{month}/{day}/{database}{ext}')
  for (const [index, bytes] of [900, 1000, 1100, 1000].entries()) {
    server.put(`dumps/2026/03/0${index + 5}/app.sql.gz`, Buffer.alloc(bytes))
  }
  server.put('dumps/2026/03/08/crm.sql.gz', '')
  server.put('dumps/2026/03/readme', 'x')
  server.put('elsewhere/2026/03/08/app.sql.gz', 'x')
  const state = await look()
  t.match(state, { name: 'offsite', databases: ['app', 'crm'], maxAgeSeconds: 93_600, backups: { length: 4 } })
  t.match(state.backups[3], {
    ...{ type: 'external', database: 'app', storedBytes: 1000 },
    startedAt: new Date('2026-03-08T00:00:00Z'),
    finishedAt: clock.now(),
  })
  t.match(state.unusable, [{ state: 'invalid', failure: { message: /crm\.sql\.gz" is empty/ } }])
  t.equal(state.files.get('unchecked'), 4)
  server.asked()
  t.equal((await look()).backups, state.backups, 'nothing is new')
  t.same(server.asked(), ['GET list'])

  server.put('dumps/2026/03/09/app.sql.gz', Buffer.alloc(100))
  const next = await look()
  t.equal(next.backups.length, 5, 'an object is there when it is whole')
  t.same(next.details(next.backups[4]?.id ?? ''), {
    ...{
      file: 'dumps/2026/03/09/app.sql.gz',
      state: 'unchecked',
      format: null,
      compression: null,
      notes: ['shrunken'],
    },
    detail: 'it is in a bucket, and nobody has read it',
  })
  const former = next.backups[0]
  await clock.advance(1000)
  server.put('dumps/2026/03/05/app.sql.gz', Buffer.alloc(900, 'x'))
  t.not((await look()).backups[0]?.manifestChecksum, former?.manifestChecksum, 'what was replaced is another one')
  server.remove('dumps/2026/03/05/app.sql.gz')
  t.equal((await look()).backups.length, 4)
  server.refuse(500)
  await t.rejects(look(), { code: 'storage-unreachable' })
})

t.test('dumps of several objects', async (t) => {
  const { clock, server, look } = await watched(t, '{timestamp}/{database}/', null)
  const put = (name: string, text = 'x') => server.put(`2026-03-10/app/${name}`, text)
  put('3001.dat.gz')
  t.match((await look()).unusable, [{ state: 'in-progress' }], 'more may come')
  await clock.advance(minute)
  t.match((await look()).unusable, [{ state: 'invalid', failure: { message: /truncated: toc\.dat is missing/ } }])
  put('toc.dat', 'twelve bytes')
  t.match((await look()).unusable, [{ state: 'in-progress' }])
  await clock.advance(minute)
  t.match((await look()).backups, [{ database: 'app', storedBytes: 13, startedAt: new Date('2026-03-10T00:00:00Z') }])
  put('3002.dat.gz', '')
  await clock.advance(minute)
  t.match((await look()).unusable, [{ failure: { message: /has no bytes/ } }])
})

t.test('more than a page', async (t) => {
  const { clock, server, look } = await watched(t, '{year}/{month}/{day}/*_{database}.dump')
  const keyOf = (at: Date, number: number) =>
    `${at.toISOString().slice(0, 10).replaceAll('-', '/')}/${String(number).padStart(3, '0')}_app.dump`
  const ago = (days: number) => new Date(clock.now().getTime() - days * day)
  for (let days = 1; days <= 30; days++) for (let hour = 0; hour < 72; hour++) server.put(keyOf(ago(days), hour), 'x')
  t.equal((await look()).backups.length, 2160)
  server.asked()
  server.put(keyOf(clock.now(), 0), 'x')
  t.equal((await look()).backups.length, 2161, 'what is new is seen at once')
  t.same(server.asked(), ['GET list', 'GET list'])
  server.remove(keyOf(ago(20), 5))
  for (let round = 0; round < 3; round++) await look()
  t.equal((await look()).backups.length, 2160, 'what is gone, within a few rounds')
})
