import { chmod, chown, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { getuid, seteuid } from 'node:process'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { PruneClock } from '../../src/shipping/prune-clock.ts'
import type { ShipperOptions } from '../../src/shipping/shipper.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { realWal, type ShipGround, shipGround } from '../support/shipping.ts'
import { untilAnswer } from '../support/until.ts'

const wal = await realWal(t)
const system = wal.systemIdentifier
const hour = 3600_000
const start = new Date('2026-03-01T00:00:00.000Z')

/** An archive whose segments were written an hour after one another, the newest at `start`. */
async function agedGround(t: Test, repositories = 2) {
  const clock = new FakeClock(start)
  const ground = await shipGround(t, { repositories, clock })
  await ground.fill(wal)
  for (const [index, name] of wal.names.entries()) {
    const at = new Date(start.getTime() - (wal.names.length - 1 - index) * hour)
    await utimes(join(ground.archive, name), at, at)
  }
  return { clock, ground }
}

const left = async ({ archive }: ShipGround) => (await readdir(archive)).toSorted()

/** Ships everything, then lets the pruner have a pass with what the index has seen. */
async function shipAll(
  { ground, clock }: Awaited<ReturnType<typeof agedGround>>,
  keepMs: number,
  options: Partial<ShipperOptions> = {},
) {
  const service = await ground.ship({ keepInArchiveMs: keepMs, ...options })
  const untilPass = async (what: string, is: () => Promise<boolean>) =>
    untilAnswer(what, async () => {
      await clock.advance(5000)
      return is()
    })
  return { service, untilPass }
}

await t.test('what is old and everywhere goes, but never the newest', async (t) => {
  const aged = await agedGround(t)
  const { ground } = aged
  await ground.put({ '00000002.history': '1\t0/9900000\tpromoted\n', 'not WAL': 'x' })
  const { service, untilPass } = await shipAll(aged, 90 * 60_000)
  const expected = [...wal.names.slice(-2), '00000002.history', 'not WAL'].toSorted()
  await untilPass('pruned', async () => (await left(ground)).length === expected.length)
  t.same(await left(ground), expected, 'those younger than 90 minutes stay, and histories, and what is not ours')
  t.match(service.state().pruning, { prunedSegments: wal.names.length - 2, failure: null })
  for (const name of wal.names) t.ok(service.isStored(name), 'the archiver does not lie about it')
  for (const index of [0, 1]) t.same((await ground.stored(system, index)).slice(0, -1), wal.names)
  await ground.look()
  for (const name of wal.names) t.ok(service.isStored(name))
  await aged.clock.advance(40 * 60_000)
  await untilPass('time passes', async () => (await left(ground)).length === expected.length - 1)
  await aged.clock.advance(2 * hour)
  t.same(await left(ground), expected.toSpliced(expected.indexOf(wal.names.at(-2) ?? ''), 1), 'the newest stays')
})

await t.test('one has got other bytes, and nobody says so: it stays, and is told', async (t) => {
  const aged = await agedGround(t)
  const { ground } = aged
  const [first = ''] = wal.names
  const { service, untilPass } = await shipAll(aged, 1000 * hour)
  await untilPass('shipped', async () => (await ground.stored(system, 1)).length === wal.names.length)
  await service.stop()
  const path = join(ground.archive, first)
  const bytes = await readFile(path)
  bytes.writeUInt8(bytes.readUInt8(9000) ^ 1, 9000)
  const { mtime } = await stat(path)
  await writeFile(path, bytes)
  await utimes(path, mtime, mtime)
  const again = await shipAll(aged, 90 * 60_000)
  const told = () => again.service.state().repositories.some(({ quarantined }) => quarantined.get('contradicts') === 1)
  await again.untilPass('told', async () => told())
  await again.untilPass('the others went', async () => (await left(ground)).length === 3)
  t.same(await left(ground), [first, ...wal.names.slice(-2)])
})

await t.test('one repository lacks one, and nobody says so', async (t) => {
  const aged = await agedGround(t)
  const { ground } = aged
  const [first = ''] = wal.names
  let isBroken = false
  const second = ground.storages[1]
  if (second)
    second.beforePut = (key) => {
      if (isBroken && key.includes(first)) throw new LifeboatError('storage-failed', 'broken')
    }
  const { service, untilPass } = await shipAll(aged, 3 * hour, { clockDoubt: () => doubt })
  let doubt: string | null = 'not yet'
  await untilPass('shipped', async () =>
    service.state().repositories.every(({ queued, inFlight }) => queued === 0 && inFlight === 0),
  )
  await ground.look()
  // Removed behind the back of the index.
  const [object] = (await ground.repositories[1]?.wal.ofSegment(system, first)) ?? []
  if (object) await ground.repositories[1]?.wal.remove(object)
  isBroken = true
  doubt = null
  await untilPass('the others', async () => (await left(ground)).length === 4)
  t.ok((await left(ground)).includes(first), 'it stays')
})

await t.test('other bytes than those that are stored', async (t) => {
  const aged = await agedGround(t, 1)
  const { ground } = aged
  const [first = ''] = wal.names
  let doubt: string | null = 'not yet'
  const { service, untilPass } = await shipAll(aged, 3 * hour, { clockDoubt: () => doubt })
  await untilPass(
    'shipped',
    async () => service.state().repositories[0]?.queued === 0 && service.state().repositories[0]?.inFlight === 0,
  )
  const bytes = await readFile(join(ground.archive, first))
  const { mtime } = await stat(join(ground.archive, first))
  bytes[100_001] = (bytes[100_001] ?? 0) ^ 1
  await ground.put({ [first]: bytes })
  await utimes(join(ground.archive, first), mtime, mtime)
  doubt = null
  await untilPass('the others', async () => (await left(ground)).length === 4)
  t.ok((await readFile(join(ground.archive, first))).equals(bytes), 'it stays')
})

await t.test('something of it is in quarantine', async (t) => {
  const aged = await agedGround(t, 1)
  const { ground } = aged
  const [first = ''] = wal.names
  const file = { systemIdentifier: system, name: first, hash: '0123456789ab' }
  await ground.repositories[0]?.wal.quarantine(file, Buffer.from('x'))
  const { untilPass } = await shipAll(aged, 3 * hour)
  await untilPass('the others', async () => (await left(ground)).length === 4)
  t.ok((await left(ground)).includes(first), 'it stays')
})

await t.test('nothing goes while there is doubt, without the lease, or from an unknown repository', async (t) => {
  const aged = await agedGround(t)
  const { ground, clock } = aged
  let doubt: string | null = 'the clock went forward'
  const { service, untilPass } = await shipAll(aged, 60_000, { clockDoubt: () => doubt })
  await untilPass('shipped', async () =>
    service.state().repositories.every(({ queued, inFlight }) => queued === 0 && inFlight === 0),
  )
  await clock.advance(10 * 60_000)
  t.same(await left(ground), wal.names)
  doubt = null
  await untilPass('then it goes', async () => (await left(ground)).length === 1)
})

await t.test('the directory must not be written to', async (t) => {
  if (getuid?.() !== 0) return t.pass('as root, everything may be removed unless it becomes somebody else')
  const aged = await agedGround(t, 1)
  const { ground } = aged
  await chmod(ground.archive, 0o555)
  // Threads share the user of the process: file access alone is given up for the time of a pass.
  await chown(ground.roots[0]?.slice(0, ground.roots[0].lastIndexOf('/')) ?? '', 65_534, 65_534)
  for (const name of wal.names) await chmod(join(ground.archive, name), 0o444)
  seteuid?.(65_534)
  t.teardown(() => seteuid?.(0))
  const { service, untilPass } = await shipAll(aged, 60_000)
  await untilPass('refused', async () => service.state().pruning?.failure !== null)
  t.match(service.state().pruning?.failure, { code: 'storage-failed', hint: /chmod g\+w/ })
  t.equal(ground.lines.filter(({ msg }) => msg === 'the WAL archive could not be pruned').length, 1)
  t.same(await left(ground), wal.names)
  await service.stop()
  seteuid?.(0)
})

await t.test('by which time files are old', async (t) => {
  const clock = new FakeClock(start)
  const time = new PruneClock(clock)
  const ago = (ms: number) => new Date(start.getTime() - ms)
  t.equal(time.now(ago(5 * hour)), start.getTime() - 5 * hour, 'it begins with the newest segment')
  await clock.advance(hour)
  t.equal(time.now(ago(0)), start.getTime() - 3 * hour, 'and catches up')
  await clock.advance(4 * hour)
  t.equal(time.now(ago(0)), start.getTime() + 5 * hour, 'with the wall clock')
  clock.jump(new Date(start.getTime() + 1000 * hour))
  t.equal(
    time.now(new Date(start.getTime() + 999 * hour)),
    start.getTime() + 5 * hour,
    'a jump makes nothing old at once',
  )
  await clock.advance(hour)
  t.equal(time.now(ago(0)), start.getTime() + 7 * hour)
  clock.jump(start)
  t.equal(time.now(ago(0)), start.getTime(), 'back is at once')
  const restarted = new FakeClock(new Date(start.getTime() + 1000 * hour))
  t.equal(new PruneClock(restarted).now(start), start.getTime(), 'nor does one while it was off')
  t.equal(new PruneClock(clock).now(new Date(start.getTime() + hour)), start.getTime(), 'nor a file from the future')
})
