import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { lapsedMs } from '../../src/repository/in-progress.ts'
import { type HoldBody, Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { PutOptions, Storage } from '../../src/storage/storage.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { dumpBody, dumpId, putDump } from './fixtures/manifests.ts'

const otherId = '20260302T020000Z-dump-0d0e0f'

/** A repository with two backups. */
async function stocked(t: Test, storage?: (local: LocalStorage) => Storage) {
  const root = t.testdir({})
  const clock = new FakeClock('2026-03-03T00:00:00Z')
  const local = new LocalStorage({ root, clock })
  const make = (of: Storage) => new Repository({ name: 'local', cluster: 'prod', storage: of, clock })
  for (const id of [dumpId, otherId]) {
    const writer = await make(local).beginBackup(id, { runId: 'r', signal: new AbortController().signal })
    await putDump(writer)
    await writer.publish(dumpBody(id))
  }
  return { root, clock, local, repository: make(storage?.(local) ?? local), make }
}

const hold = (fields: Partial<HoldBody> = {}): HoldBody => ({
  backupId: dumpId,
  heldAt: '2026-03-03T00:00:00Z',
  heldBy: 'ops',
  reason: 'audit "2026"\n\u001b[31m',
  until: null,
  lifeboat: '0.1.0',
  ...fields,
})

const expire = { runId: 'expire-1', needs: [otherId], isDead: () => false }

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

t.test('a hold', async (t) => {
  const { root, repository } = await stocked(t)
  const file = join(root, 'prod/holds', `${dumpId}.json`)
  t.same(await collect(repository.listHolds()), [])
  t.equal(await repository.readHold(dumpId), null)
  await repository.hold(hold())
  t.match(await repository.readHold(dumpId), { hold: { ...hold(), formatVersion: 1, checksum: /^[0-9a-f]{64}$/ } })
  t.match(await collect(repository.listHolds()), [{ backupId: dumpId, key: `prod/holds/${dumpId}.json` }])
  await repository.hold(hold({ reason: 'again', until: '2026-04-01T00:00:00Z' }))
  t.match(await repository.readHold(dumpId), { hold: { reason: 'again', until: '2026-04-01T00:00:00Z' } })
  const text = await readFile(file, 'utf8')
  for (const damaged of ['', text.slice(0, -3), text.replace('again', 'never'), '{}']) {
    await writeFile(file, damaged)
    t.match(await repository.readHold(dumpId), { problem: { code: 'storage-failed', hint: /counts as held/ } }, damaged)
    await t.rejects(repository.expireBackup(dumpId, expire), { code: 'conflict', message: /is held/ })
  }
  await writeFile(join(root, 'prod/holds', 'not one.json'), 'x')
  await mkdir(join(root, 'prod/holds', `${otherId}.json`))
  t.equal((await collect(repository.listHolds())).length, 1, 'what else lies there is none')
  t.equal(await repository.releaseHold(dumpId), true)
  t.equal(await repository.releaseHold(dumpId), false)
  await t.rejects(repository.hold(hold({ until: '2026-02-31T00:00:00Z' })), { code: 'usage-invalid' })
  await t.rejects(repository.hold(hold({ backupId: '../x' })), { code: 'usage-invalid' })
  await t.rejects(repository.hold(hold({ backupId: dumpId.replace(/.{6}$/, 'ffffff') })), { code: 'not-found' })
  t.same(
    readdirSync(join(root, 'prod/holds')).sort(),
    [`${otherId}.json`, 'not one.json'].sort(),
    'nothing is left of it',
  )
})

t.test('a backup that is held, in use or needed does not expire', async (t) => {
  const { root, clock, repository } = await stocked(t)
  const signal = new AbortController().signal
  const before = readdirSync(join(root, 'prod/backups', dumpId))
  const stays = async (message: RegExp, options = expire) => {
    await t.rejects(repository.expireBackup(dumpId, options), { code: 'conflict', message })
    t.same(readdirSync(join(root, 'prod/backups', dumpId)), before, 'it is as it was')
  }
  await repository.hold(hold({ until: '2026-03-04T00:00:00Z' }))
  await stays(/is held/)
  await repository.releaseHold(dumpId)
  const uses = [
    await repository.useBackup(dumpId, { runId: 'verify-1', purpose: 'verify', signal }),
    await repository.useBackup(dumpId, { runId: 'restore-1', purpose: 'restore', signal }),
  ]
  await stays(/in use/)
  await uses[0]?.release()
  await stays(/in use/)
  const [mark] = await collect(repository.listUses({ of: dumpId }))
  t.match(await repository.readUse(mark?.key ?? ''), { runId: 'restore-1', purpose: 'restore' })
  t.same(await collect(repository.listUses({ of: otherId })), [])
  await uses[1]?.release()
  await uses[1]?.release()
  t.notOk(existsSync(join(root, 'prod/uses')), 'no mark is left')
  await stays(/which was to stay in its place, is gone/, { ...expire, needs: ['20260303T020000Z-dump-abcdef'] })
  clock.jump('2026-03-05T00:00:00Z')
  await repository.hold(hold({ until: '2026-03-04T00:00:00Z' }))
  await repository.expireBackup(dumpId, expire)
  t.equal(await repository.inspect(dumpId), null, 'a hold that has ended holds nothing')
  await repository.expireBackup(dumpId, expire)
  t.notOk(existsSync(join(root, 'prod/backups', dumpId)), 'what is gone is no error, and stays gone')
})

t.test('a mark of use lives as long as its holder', async (t) => {
  const { clock, repository } = await stocked(t)
  const use = await repository.useBackup(dumpId, { runId: 'v', purpose: 'verify' })
  const mark = async () => (await collect(repository.listUses()))[0]
  const first = await mark()
  await clock.advance(30_000)
  let second = await mark()
  while (second?.info.version === first?.info.version) second = await mark()
  t.not(second?.info.version, first?.info.version, 'it is renewed')
  await repository.storage.remove(first?.key ?? '')
  await clock.advance(30_000)
  while ((await mark()) === undefined);
  t.equal((await mark())?.key, first?.key, 'and put back when somebody took it for dead')
  await use.release()
  await clock.advance(60_000)
  t.equal(await mark(), undefined)
})

t.test('of expiry and who wants the backup one gives way, whoever comes first', async (t) => {
  /** Does something between two steps of the other: `when` the key is put or looked at for the first time. */
  const interrupted = (part: string, action: () => Promise<unknown>) => (local: LocalStorage) => {
    let pending = true
    const once = async (key: string) => {
      if (!pending || !key.includes(part)) return
      pending = false
      await action()
    }
    return Object.assign(Object.create(local) as LocalStorage, {
      put: async (key: string, body: Uint8Array, options?: PutOptions) => {
        await once(`put ${key}`)
        const info = await local.put(key, body, options)
        await once(`was put ${key}`)
        return info
      },
      head: (key: string, options?: object) => local.head(key, options),
      get: (key: string, options?: object) => local.get(key, options),
      list: (prefix: string, options?: object) => local.list(prefix, options),
      remove: async (key: string, options?: object) => {
        await once(`remove ${key}`)
        await local.remove(key, options)
      },
    })
  }
  for (const step of ['put prod/backups', 'was put prod/backups']) {
    for (const [what, message] of [
      ['hold', /is held|being removed/],
      ['use', /in use|being removed/],
    ] as const) {
      const failures: unknown[] = []
      const stocks = await stocked(t)
      const other = stocks.repository
      const want = () =>
        what === 'hold' ? other.hold(hold()) : other.useBackup(dumpId, { runId: 'v', purpose: 'verify' })
      const slow = stocks.make(interrupted(step, () => want().catch((error) => failures.push(error)))(stocks.local))
      await slow.expireBackup(dumpId, expire).catch((error) => failures.push(error))
      t.match(failures, [{ code: 'conflict' }], `${what}, ${step}`)
      t.match((failures[0] as LifeboatError).message, message)
      const isThere = (await other.headManifest(dumpId)) !== null
      t.equal(isThere, /is held|in use/.test((failures[0] as LifeboatError).message), 'and what it says is so')
    }
  }
  // Two that hold different backups for the last one must not remove both.
  const stocks = await stocked(t)
  const failures: unknown[] = []
  const remove = (id: string, needs: string) => stocks.repository.expireBackup(id, { ...expire, needs: [needs] })
  const slow = stocks.make(
    interrupted('was put prod/backups', () => remove(otherId, dumpId).catch((error) => failures.push(error)))(
      stocks.local,
    ),
  )
  await slow.expireBackup(dumpId, expire).catch((error) => failures.push(error))
  t.ok(failures.length >= 1, 'at least one gives way')
  t.ok([dumpId, otherId].some((id) => existsSync(join(stocks.root, 'prod/backups', id, 'manifest.json'))))
})

t.test('an expiry that died lapses', async (t) => {
  const { root, clock, repository } = await stocked(t)
  const claim = join(root, 'prod/backups', dumpId, '.inprogress')
  const at = clock.now().toISOString()
  const dead = { runId: 'e', token: 't', host: 'h', pid: 1, startedAt: at, heartbeatAt: at, purpose: 'expire' }
  writeFileSync(claim, JSON.stringify(dead))
  await t.rejects(repository.expireBackup(dumpId, expire), { code: 'conflict', message: /being removed/ })
  await t.rejects(repository.hold(hold()), { code: 'conflict' })
  await t.rejects(repository.useBackup(dumpId, { runId: 'v', purpose: 'verify' }), { code: 'conflict' })
  t.equal(await repository.readHold(dumpId), null)
  t.same(await collect(repository.listUses()), [])
  t.match(await repository.inspect(dumpId), { state: 'complete' }, 'it was not begun')
  clock.jump(new Date(clock.now().getTime() + lapsedMs + 1))
  await repository.expireBackup(dumpId, expire)
  t.equal(await repository.inspect(dumpId), null)
})

t.test('a full disk does not keep expiry from making room', async (t) => {
  const full = new LifeboatError('disk-full', 'no space left on device')
  const { repository } = await stocked(t, (local) =>
    Object.assign(Object.create(local) as LocalStorage, {
      put: async () => {
        throw full
      },
      head: (key: string) => local.head(key),
      get: (key: string) => local.get(key),
      list: (prefix: string, options?: object) => local.list(prefix, options),
      remove: (key: string) => local.remove(key),
    }),
  )
  await repository.expireBackup(dumpId, expire)
  t.equal(await repository.inspect(dumpId), null)
  await t.rejects(repository.hold(hold({ backupId: otherId })), { code: 'disk-full' })
})

t.test('what cannot be looked at does not expire', async (t) => {
  for (const part of ['/holds/', '/uses/']) {
    const fail = (key: string) => {
      if (key.includes(part)) throw new LifeboatError('storage-failed', 'input/output error')
    }
    const { repository } = await stocked(t, (local) =>
      Object.assign(Object.create(local) as LocalStorage, {
        put: (key: string, body: Uint8Array, options?: PutOptions) => local.put(key, body, options),
        head: (key: string) => local.head(key),
        get: async (key: string) => {
          fail(key)
          return local.get(key)
        },
        list: (prefix: string, options?: object) => {
          fail(prefix)
          return local.list(prefix, options)
        },
        remove: (key: string) => local.remove(key),
      }),
    )
    await t.rejects(repository.expireBackup(dumpId, expire), part)
    t.match(await repository.inspect(dumpId), { state: 'complete', inProgress: null })
  }
})
