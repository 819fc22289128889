import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type IdentityLedger, Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { codeOf } from '../contract/storage.ts'
import { dumpBody, dumpId, ManualClock, proofBody, putDump } from './fixtures/manifests.ts'

const otherId = '20260302T020000Z-dump-ffffff'

class MapLedger implements IdentityLedger {
  readonly ids = new Map<string, string>()

  repositoryId(repository: string, cluster: string): string | null {
    return this.ids.get(`${repository}/${cluster}`) ?? null
  }

  noteRepository(repository: string, cluster: string, id: string): void {
    this.ids.set(`${repository}/${cluster}`, id)
  }
}

/** A repository on a disk that can be taken away. */
function make(t: Test, { root = join(t.testdir({}), 'mnt/repository'), ledger = new MapLedger() } = {}) {
  const clock = new ManualClock()
  const storage = new LocalStorage({ root })
  const identity = { ledger, lifeboat: '1.2.3', exists: () => storage.exists() }
  const repository = new Repository({ name: 'local', cluster: 'prod', storage, clock, identity })
  const begin = (id: string) => repository.beginBackup(id, { runId: 'run', signal: new AbortController().signal })
  const backUp = async (id = dumpId) => {
    const writer = await begin(id)
    await putDump(writer)
    await writer.publish(dumpBody(id))
  }
  return {
    root,
    ledger,
    repository,
    backUp,
    marker: join(root, 'prod/repository.json'),
    /** As `umount` does: the mount point stays, empty. */
    unmount: (): void => {
      renameSync(root, `${root}.disk`)
      mkdirSync(root)
    },
    mount: (): void => {
      rmSync(root, { recursive: true })
      renameSync(`${root}.disk`, root)
    },
  }
}

await t.test('the first backup marks the repository', async (t) => {
  const { root, repository, ledger, marker, backUp } = make(t)
  await t.rejects(repository.checkPresence(), {
    code: 'storage-failed',
    message: /not there \(yet\)/,
    hint: /mount it/,
  })
  await t.rejects(backUp(), { code: 'storage-failed', message: /there is no directory .*mnt$/, hint: /mkdir -p/ })
  t.notOk(existsSync(join(root, '..')), 'what may be a mount point is not made')
  mkdirSync(join(root, '..'))
  await t.rejects(repository.checkPresence(), { code: 'storage-failed' })
  await repository.checkIdentity()
  await backUp()
  await repository.checkPresence()

  const text = readFileSync(marker, 'utf8')
  const fields = JSON.parse(text) as Record<string, string>
  t.match(fields, {
    formatVersion: 1,
    id: /^[0-9a-f]{16}$/,
    createdAt: '2026-03-01T02:00:00.000Z',
    lifeboat: '1.2.3',
    checksum: createHash('sha256')
      .update(`${text.split('\n').slice(0, -3).join('\n')}\n`)
      .digest('hex'),
  })
  t.same([...ledger.ids], [['local/prod', fields.id]])
  await backUp(otherId)
  t.equal(readFileSync(marker, 'utf8'), text, 'once')
})

await t.test('a directory that is empty may be a new repository', async (t) => {
  const { repository, ledger } = make(t, { root: t.testdir({}) })
  await repository.checkPresence()
  t.equal(ledger.ids.size, 0)
})

await t.test('a disk that is not mounted is no empty repository', async (t) => {
  const { root, repository, backUp, unmount, mount } = make(t, { root: join(t.testdir({ mnt: {} }), 'mnt/repository') })
  await backUp()
  const gone = {
    code: 'storage-failed',
    message: /this is not the repository that it was .*: is it mounted\?$/,
    hint: /mount it.*lifeboat adopt local/,
  }
  unmount()
  await t.rejects(repository.checkPresence(), gone)
  await t.rejects(repository.checkIdentity(), gone)
  await t.rejects(backUp(otherId), gone)
  await t.rejects(repository.publishProof(proofBody()), gone)
  t.same(readdirSync(root), [], 'nothing was written')
  rmSync(root, { recursive: true })
  await t.rejects(repository.checkPresence(), gone, 'nor is one whose mount point has gone')
  await t.rejects(backUp(otherId), gone)
  t.notOk(existsSync(root))
  mkdirSync(root)
  mount()
  await repository.checkPresence()
  await backUp(otherId)
})

await t.test('another repository in its place', async (t) => {
  const base = t.testdir({ one: {}, two: {} })
  const one = make(t, { root: join(base, 'one') })
  const two = make(t, { root: join(base, 'two') })
  await one.backUp()
  await two.backUp()
  const swapped = make(t, { root: two.root, ledger: one.ledger })
  const another = { code: 'storage-failed', message: /the marker of another one/ }
  await t.rejects(swapped.repository.checkPresence(), another)
  await t.rejects(swapped.backUp(otherId), another)
  await swapped.repository.adopt()
  await swapped.repository.checkPresence()
  await swapped.backUp(otherId)
  t.equal(one.ledger.repositoryId('local', 'prod'), two.ledger.repositoryId('local', 'prod'))
  await t.rejects(one.repository.checkPresence(), another)

  swapped.unmount()
  await swapped.repository.adopt()
  await swapped.repository.checkPresence()
  t.ok(existsSync(swapped.marker), 'replaced by an empty one, on purpose')
  rmSync(two.root, { recursive: true })
  await t.rejects(swapped.repository.adopt(), { code: 'storage-failed', message: /is not there/ })
})

await t.test(
  'a repository without marker gets one at the next write; state that was lost learns it again',
  async (t) => {
    const { root, repository, backUp, marker, ledger } = make(t, { root: t.testdir({}) })
    await backUp()
    rmSync(marker)
    ledger.ids.clear()
    await repository.checkPresence()
    t.notOk(existsSync(marker), 'looking writes nothing')
    await repository.publishProof(proofBody())
    const id = ledger.repositoryId('local', 'prod')
    t.ok(existsSync(marker))

    const later = make(t, { root })
    await later.repository.checkPresence()
    t.equal(later.ledger.repositoryId('local', 'prod'), id)
  },
)

await t.test('two that write first agree', async (t) => {
  const root = t.testdir({})
  const [one, two] = [make(t, { root }), make(t, { root })]
  await Promise.all([one.backUp(dumpId), two.backUp(otherId)])
  t.ok(one.ledger.repositoryId('local', 'prod'))
  t.same(one.ledger.ids, two.ledger.ids)
})

await t.test('a marker that is damaged', async (t) => {
  const { repository, backUp, marker } = make(t, { root: t.testdir({}) })
  await backUp()
  const whole = readFileSync(marker, 'utf8')
  for (const bytes of ['', whole.slice(0, 40), whole.replace('1.2.3', '1.2.4'), 'x'.repeat(100_000)]) {
    writeFileSync(marker, bytes)
    await t.rejects(repository.checkPresence(), {
      code: 'storage-failed',
      message: /marker .* is not valid/,
      hint: /adopt/,
    })
    t.equal(await codeOf(backUp(otherId)), 'storage-failed')
  }
  await repository.adopt()
  await repository.checkPresence()
  await backUp(otherId)
})
