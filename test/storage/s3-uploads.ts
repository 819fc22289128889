import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import {
  DeleteObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectLegalHoldCommand,
} from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import { checkBucket } from '../../src/check/bucket.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createCore } from '../../src/core.ts'
import { compactUtc } from '../../src/domain/backup.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { createRepositoryLook } from '../../src/observe/repository.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import type { ObjectLockSettings, S3Settings } from '../../src/storage/s3-settings.ts'
import { dumpBody, putDump } from '../repository/fixtures/manifests.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { type S3Server, testKeys } from '../support/s3.ts'
import { filledSystem, storeSegment } from '../support/wal-objects.ts'

const dayMs = 86_400_000
const large = randomBytes(6 * 1024 * 1024)
const lock: ObjectLockSettings = { mode: 'governance', forSeconds: 86_400, legalHold: false, covers: () => true }

/** What an upload carries besides its bytes, and what a server does with it. */
export async function uploadTraits(t: Test, server: S3Server): Promise<void> {
  await t.test('checksums', (t) => checksums(t, server))
  await t.test('tags', (t) => tags(t, server))
  await t.test('locks', (t) => locks(t, server))
  await t.test('what the bucket cannot do', (t) => unable(t, server))
  await t.test('check names what is wrong', (t) => checked(t, server))
  await t.test('backups and WAL that are locked do not expire', (t) => expiring(t, server))
}

async function checksums(t: Test, server: S3Server): Promise<void> {
  for (const checksum of ['md5', 'sha256'] as const) {
    const settings = await server.bucket({ checksum })
    const storage = new S3Storage({ settings })
    for (const body of [large, large.subarray(0, 1000), Buffer.alloc(0)]) {
      await storage.put('k', Readable.from([body]))
      t.ok((await buffer((await storage.get('k')).body)).equals(body), `${checksum}, ${body.length} bytes`)
    }
    t.equal(await storage.trials.comparesChecksums('trial', checksum), true, 'a wrong one is refused')
    t.equal(await storage.head('trial'), null)
  }
}

async function tags(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({ tags: { team: 'dba', 'ü b': '+/=&:@' } })
  const storage = new S3Storage({ settings })
  for (const body of [large, Buffer.from('small')]) {
    await storage.put('k', body)
    const { TagSet = [] } = await server.client.send(new GetObjectTaggingCommand({ Bucket: settings.bucket, Key: 'k' }))
    const found = Object.fromEntries(TagSet.map(({ Key, Value }) => [Key, Value]))
    t.same(found, settings.tags, `${body.length} bytes`)
  }
}

async function locks(t: Test, server: S3Server): Promise<void> {
  const changes = { objectLock: { ...lock, covers: (key: string) => key !== 'free' } }
  const settings = await server.bucket({ prefix: 'p/', ...changes }, { withLock: true })
  const storage = new S3Storage({ settings })
  const until = (key: string) => storage.head(key).then((info) => info?.lock?.until ?? null)
  const before = Date.now()
  for (const [key, body] of [
    ['small', Buffer.from('x')],
    ['large', large],
  ] as const) {
    await storage.put(key, body)
    const ends = (await until(key))?.getTime() ?? 0
    t.ok(ends >= before + dayMs && ends <= Date.now() + dayMs, `${key}: for a day`)
    const { VersionId } = await server.client.send(new HeadObjectCommand({ Bucket: settings.bucket, Key: `p/${key}` }))
    const removing = new DeleteObjectCommand({ Bucket: settings.bucket, Key: `p/${key}`, VersionId })
    t.match(await server.client.send(removing).catch((error: unknown) => error), { name: 'AccessDenied' })
    const later = new Date(before + 9 * dayMs)
    await storage.locks?.extend(key, later)
    t.same(await until(key), later)
    await storage.locks?.extend(key, new Date(before + dayMs))
    t.same(await until(key), later, 'never shorter')
    await storage.locks?.hold(key)
    t.match(await storage.head(key), { lock: { until: null } })
    const { info, body: stream } = await storage.get(key)
    stream.destroy()
    t.match(info, { lock: { until: null } }, 'who reads it sees it, too')
    await storage.locks?.release(key)
    t.same(await until(key), later)
  }
  t.notOk('lock' in (await storage.put('free', Buffer.from('x'))), 'what is not for good is not locked')
  await storage.remove('small')
  t.equal(await storage.head('small'), null, 'a removal hides it')
  t.equal(await versions(server, settings, 'p/small'), 1, 'and the version stays')

  const held = { ...settings, objectLock: { ...lock, forSeconds: null, legalHold: true } }
  const holding = new S3Storage({ settings: held })
  for (const body of [Buffer.from('x'), large]) {
    await holding.put('held', body)
    t.same(await holding.head('held').then((info) => info?.lock), { until: null })
    await holding.locks?.release('held')
    t.same(await holding.head('held').then((info) => info?.lock), { until: null }, 'for good')
  }
}

async function versions(server: S3Server, { bucket }: S3Settings, key: string): Promise<number> {
  const page = await server.client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key }))
  return page.Versions?.length ?? 0
}

async function unable(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket()
  const locking = new S3Storage({ settings: { ...settings, objectLock: lock } })
  const unknown = new S3Storage({ settings: { ...settings, storageClass: () => 'NO_SUCH_CLASS' } })
  for (const body of [Buffer.from('x'), large]) {
    for (const [storage, hint] of [
      [locking, /the bucket has no Object Lock/],
      [unknown, /storage class NO_SUCH_CLASS.*storageClass/],
    ] as const) {
      const failure = await storage.put('k', body).catch((error: unknown) => error)
      t.ok(failure instanceof LifeboatError)
      t.match(failure, { code: 'storage-failed', hint }, `${body.length} bytes`)
      t.equal(await storage.head('k'), null, 'nothing of it stays')
    }
  }
}

/** A configuration with one bucket, as somebody writes it. */
async function configured(t: Test, server: S3Server, { bucket }: S3Settings, more: object) {
  const directory = t.testdir({})
  const file = async (name: string, content: string) => {
    await writeFile(join(directory, name), content, { mode: 0o600 })
    return join(directory, name)
  }
  const repository = {
    ...{ name: 'offsite', url: `s3://${bucket}/prod`, endpoint: server.endpoint },
    accessKeyIdFile: await file('id', testKeys.accessKeyId),
    secretAccessKeyFile: await file('secret', testKeys.secretAccessKey),
    ...more,
  }
  const yaml = {
    cluster: 'prod',
    stateDir: join(directory, 'state'),
    postgres: { host: join(directory, 'nowhere') },
    repositories: [repository],
  }
  return loadConfig({ text: JSON.stringify(yaml), env: {} })
}

async function checked(t: Test, server: S3Server): Promise<void> {
  const [plain, withLock] = [await server.bucket(), await server.bucket({}, { withLock: true })]
  const check = async (settings: S3Settings, more: object) => {
    const config = await configured(t, server, settings, more)
    const { log } = keptLog()
    const core = await createCore(config, { clock: new FakeClock(new Date()), log, version: '0' })
    try {
      const [repository] = config.repositories
      const storage = core.repositories[0]?.storage
      if (repository === undefined || storage === undefined) throw new Error('there is one')
      return await checkBucket(repository, storage)
    } finally {
      await core.close()
    }
  }
  const ok = (message: RegExp) => ({ status: 'ok', what: message })
  t.match(await check(plain, { walStorageClass: 'STANDARD_IA' }), [ok(/removed from/), ok(/compares the MD5/)])
  t.match(await check(plain, { checksum: 'sha256' }), [ok(/removed from/), ok(/compares the SHA-256/)])
  for (const objectLock of [{ for: '90d' }, { mode: 'compliance', legalHold: true }])
    t.match(await check(withLock, { objectLock }), [
      ...[ok(/removed from/), ok(/MD5/)],
      { status: 'warning', what: /If-None-Match/ },
      ok(/are locked/),
    ])
  const page = await server.client.send(new ListObjectsV2Command({ Bucket: withLock.bucket }))
  t.same(page.Contents ?? [], [], 'nothing is left to see')
  for (const [more, hint] of [
    [{ objectLock: { for: '90d' } }, /no Object Lock/],
    [{ storageClass: 'NONE' }, /storage class NONE/],
    [{ walStorageClass: 'NONE' }, /walStorageClass/],
  ] as const) {
    const failure = await check(plain, more).catch((error: unknown) => error)
    t.match(failure, { code: 'storage-failed', hint }, JSON.stringify(more))
  }
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = []
  for await (const item of items) found.push(item)
  return found
}

async function expiring(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({}, { withLock: true })
  const config = await configured(t, server, settings, {
    objectLock: { for: '30d' },
    retention: { keepFor: '1d', keepAtLeast: 1 },
  })
  const start = new Date()
  const clock = new FakeClock(start)
  const { log, lines } = keptLog()
  const core = await createCore(config, { clock, log, version: '0' })
  t.teardown(() => core.close())
  const [repository] = core.repositories.map((one) => one.repository)
  if (repository === undefined) throw new Error('there is one')
  const dump = async (minutes: number, random: string): Promise<string> => {
    const at = new Date(start.getTime() - minutes * 60_000)
    const id = `${compactUtc(at)}-dump-${random}`
    const writer = await repository.beginBackup(id, { runId: 'r', signal: new AbortController().signal })
    await putDump(writer)
    const place = { lsn: `0/${random.toUpperCase()}`, time: at.toISOString() }
    await writer.publish(dumpBody(id, { start: place, stop: place }))
    return id
  }
  const [old, newest] = [await dump(20, 'aaaaa1'), await dump(10, 'aaaaa2')]
  const names = ['01', '02', '03'].map((number) => `0000000100000000000000${number}`)
  for (const name of names) await storeSegment(repository, name)
  const page = await server.client.send(new ListObjectsV2Command({ Bucket: settings.bucket }))
  for (const { Key = '' } of page.Contents ?? []) {
    const isForGood = /\/(backups|wal)\//.test(Key)
    const head = await server.client.send(new HeadObjectCommand({ Bucket: settings.bucket, Key }))
    t.equal(head.ObjectLockMode, isForGood ? 'GOVERNANCE' : undefined, Key)
  }
  const expire = async () => {
    const params = { repository: null, confirmClock: true }
    const { id } = core.runner.trigger({ job: 'expire', params, trigger: 'cli', requestedBy: 'test' })
    return core.runner.wait(id)
  }
  const backups = () => all(repository.listBackups())
  const wal = async () => (await all(repository.wal.list(filledSystem, 1))).map(({ name }) => name.slice(-1)).join('')
  const pass = (days: number) => clock.jump(new Date(start.getTime() + days * dayMs))
  const expireAlone = () =>
    repository.expireBackup(old, { runId: 'e', needs: [], isDead: () => false }).catch((error: unknown) => error)

  pass(5)
  t.match(await expire(), { state: 'succeeded', items: [] }, 'what is locked is not even tried')
  t.match(await expireAlone(), { code: 'conflict', message: /is locked until 2/ })
  const state = await createRepositoryLook({ repository, capacity: null, log })(new AbortController().signal)
  t.ok((state.backups.find(({ id }) => id === old)?.lock?.until ?? start) > new Date(start.getTime() + 29 * dayMs))

  const body = { backupId: old, heldAt: start.toISOString(), heldBy: 'x', reason: '', lifeboat: '0' }
  await repository.hold({ ...body, until: null })
  await repository.hold({ ...body, until: new Date(start.getTime() + 40 * dayMs).toISOString() })
  await repository.releaseHold(old)
  pass(35)
  t.match(await expireAlone(), { code: 'conflict', message: /is locked until 2/ }, 'as long as it was held for')
  await repository.hold({ ...body, until: null })
  pass(45)
  t.match(await expireAlone(), { code: 'conflict', message: /legal hold/ })
  await repository.releaseHold(old)

  const keyOf = async (name: string | undefined) =>
    (await all(repository.wal.list(filledSystem, 1))).find((one) => one.name === name)?.info.key
  const legal = async (name: string | undefined, Status: 'ON' | 'OFF') =>
    server.client.send(
      new PutObjectLegalHoldCommand({
        ...{ Bucket: settings.bucket, Key: `prod/${await keyOf(name)}` },
        LegalHold: { Status },
      }),
    )
  await legal(names[1], 'ON')
  t.match(await expire(), { state: 'succeeded', items: [{ backupId: old, outcome: 'succeeded' }] })
  t.same(await backups(), [newest])
  t.equal(await wal(), '23', 'no hole is made')
  t.ok(lines.some((line) => JSON.stringify(line).includes('the bucket has it locked')))
  await legal(names[1], 'OFF')
  t.match(await expire(), { state: 'succeeded', items: [] })
  t.equal(await wal(), '3', 'the newest one always stays')
  t.equal(await versions(server, settings, `prod/prod/backups/${old}/manifest.json`), 1, 'as a version it stays')
}
