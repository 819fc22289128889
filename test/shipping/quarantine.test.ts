import { createHash } from 'node:crypto'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { zstdDecompressSync } from 'node:zlib'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { parseWalName } from '../../src/domain/wal.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { isIdle, realWal, shipGround, untilState } from '../support/shipping.ts'

// Two clusters whose segments have the same names.
const [wal, other] = await Promise.all([realWal(t), realWal(t)])
const system = wal.systemIdentifier
const [first = '', second = '', third = '', ...rest] = wal.names
const short = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex').slice(0, 12)
const real = (name: string) => readFile(join(wal.directory, name))

await t.test('each kind of bad segment is left out, counted, and holds up nothing', async (t) => {
  const whole = await real(second)
  const page = 8192
  const change = (work: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(whole)
    work(bytes)
    return bytes
  }
  const foreign = await readFile(join(other.directory, second))
  const cases: readonly (readonly [what: string, bytes: Buffer, reason: string, kept: string | null])[] = [
    ['truncated', whole.subarray(0, 500_000), 'short', null],
    ['empty', Buffer.alloc(0), 'short', null],
    ['zero-filled', Buffer.alloc(whole.length), 'zero-filled', null],
    ['no WAL', Buffer.alloc(whole.length, 'x'), 'not-wal', null],
    ['another segment', await real(third), 'other-place', system],
    ['foreign', foreign, 'foreign', other.systemIdentifier],
    [
      'a header within that is flipped',
      change((bytes) => bytes.writeUInt8(1 ^ (bytes[page * 3 + 9] ?? 0), page * 3 + 9)),
      'damaged',
      system,
    ],
    ['a page within that is lost', change((bytes) => bytes.fill(0, page * 3, page * 4)), 'damaged', system],
    ['lost from some page on', change((bytes) => bytes.fill(0, page * 3)), 'damaged', system],
    ['a page of another place', change((bytes) => whole.copy(bytes, page * 5, page * 4, page * 5)), 'damaged', system],
  ]
  for (const [what, bytes, reason, kept] of cases) {
    await t.test(what, async (t) => {
      const ground = await shipGround(t)
      ground.known.add(system)
      await ground.fill(wal)
      await ground.put({ [second]: bytes })
      const service = await ground.ship()
      const state = await untilState(service, 'the rest', isIdle)
      t.same(await ground.stored(system), [first, third, ...rest], 'all others are stored')
      t.same([...(state.repositories[0]?.quarantined ?? [])], [[reason, 1]])
      t.same(await ground.quarantined(), kept === null ? [] : [`${kept}/${second}-${short(bytes)}.zst`])
      if (kept !== null) {
        const stored = await ground.storages[0]?.get(`prod/quarantine/${kept}/${second}-${short(bytes)}.zst`)
        t.ok(stored && zstdDecompressSync(await buffer(stored.body)).equals(bytes), 'the copy is what was found')
      }
      t.ok((await readFile(join(ground.archive, second))).equals(bytes), 'the file is left where it is')
      const told = ground.lines.filter(({ msg }) => msg === 'a file of the WAL archive is not shipped')
      t.match(told, [{ name: second, reason, level: 40, hint: /docs/ }])
      t.notOk(service.isStored(second))

      // Replaced by the right one, it is shipped.
      await ground.put({ [second]: whole })
      await ground.look(second)
      const after = await untilState(
        service,
        'the right one',
        ({ repositories }) =>
          repositories[0]?.quarantined.size === 0 && repositories[0].queued === 0 && repositories[0].inFlight === 0,
      )
      t.equal(after.repositories[0]?.shippedSegments, wal.names.length)
      t.same(await ground.stored(system), wal.names)
    })
  }
})

await t.test('a bit that flipped inside a page is not seen here, but never stored over the right one', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  const service = await ground.ship()
  await untilState(service, 'all', isIdle)
  await ground.look()
  // The same name comes again with other bytes.
  const bytes = await real(third)
  bytes[100_001] = (bytes[100_001] ?? 0) ^ 1
  await ground.put({ [third]: bytes })
  await ground.look(third)
  const state = await untilState(
    service,
    'it is seen',
    ({ repositories }) => repositories[0]?.quarantined.get('contradicts') === 1,
  )
  t.equal(state.repositories[0]?.shippedSegments, wal.names.length)
  t.same(await ground.stored(system), wal.names, 'the first bytes stay')
  t.same(await ground.quarantined(), [`${system}/${third}-${short(bytes)}.zst`])
  t.equal(await ground.repositories[0]?.wal.isQuarantined(system, third), true)
  t.equal(await ground.repositories[0]?.wal.isQuarantined(system, second), false)
})

await t.test('the same bytes again are fine', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  const service = await ground.ship()
  await untilState(service, 'all', isIdle)
  const before = service.state().repositories[0]?.lastSuccessAt
  await ground.put({ [third]: await real(third) })
  await ground.look(third)
  const looked = await untilState(service, 'looked at', ({ repositories }) => repositories[0]?.lastSuccessAt !== before)
  t.equal(looked.repositories[0]?.quarantined.size, 0)
  t.same(await ground.quarantined(), [])
})

await t.test('another segment under a stored name, met by a new process', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal, [first, second])
  const before = await ground.ship()
  await untilState(before, 'two', isIdle)
  await before.stop()
  const bytes = await real(second)
  bytes[50_001] = (bytes[50_001] ?? 0) ^ 1
  await ground.put({ [second]: bytes })
  // The index does not know of it yet: a repository that was restored, an index that was lost.
  const service = await ground.ship({
    stored: () => ({ repository: 'repository-0', systems: new Map(), revision: 1, listedAt: new Date() }),
  })
  const state = await untilState(service, 'both are looked at', isIdle)
  t.equal(state.repositories[0]?.shippedSegments, 0, 'the one was there already')
  t.same([...(state.repositories[0]?.quarantined ?? [])], [['contradicts', 1]])
  t.same(await ground.stored(system), [first, second])
})

await t.test('of whose WAL it is', async (t) => {
  await t.test('nothing is known anywhere: the archive is taken at its word', async (t) => {
    const ground = await shipGround(t)
    await ground.fill(wal)
    const service = await ground.ship()
    await untilState(service, 'all', isIdle)
    t.same(await ground.stored(system), wal.names)
  })
  await t.test('WAL of another one is stored, and the server was not asked yet: it waits', async (t) => {
    const ground = await shipGround(t)
    const old = other.names.slice(0, 3)
    await ground.fill(other, old)
    const before = await ground.ship()
    await untilState(before, 'the old cluster', isIdle)
    await before.stop()
    // The new cluster begins anew with the same names.
    await ground.fill(wal)
    const service = await ground.ship()
    const waiting = await untilState(service, 'looked at', isIdle)
    t.equal(waiting.repositories[0]?.undecided, wal.names.length)
    t.equal(waiting.repositories[0]?.quarantined.size, 0)
    t.same(await ground.stored(system), [])
    ground.known.add(system)
    await ground.look(...wal.names)
    await untilState(service, 'known', ({ repositories }) => repositories[0]?.shippedSegments === wal.names.length)
    t.same(await ground.stored(system), wal.names)
    t.same(await ground.stored(other.systemIdentifier), old, 'the old one keeps its own')
  })
  await t.test('taken for foreign before the upgrade was known of: shipped after', async (t) => {
    const ground = await shipGround(t)
    ground.known.add(other.systemIdentifier)
    await ground.fill(wal)
    const service = await ground.ship()
    const state = await untilState(service, 'looked at', isIdle)
    t.equal(state.repositories[0]?.quarantined.get('foreign'), wal.names.length)
    ground.known.add(system)
    await ground.look(...wal.names)
    await untilState(service, 'shipped', ({ repositories }) => repositories[0]?.shippedSegments === wal.names.length)
    t.same(await ground.stored(system), wal.names)
  })
  await t.test('old and new WAL in one archive: each to its own, and once', async (t) => {
    const ground = await shipGround(t)
    for (const one of [system, other.systemIdentifier]) ground.known.add(one)
    await ground.fill(other, [first, second])
    await ground.fill(wal, [third, ...rest])
    const service = await ground.ship()
    await untilState(service, 'all', isIdle)
    t.same(await ground.stored(other.systemIdentifier), [first, second])
    t.same(await ground.stored(system), [third, ...rest])
    await service.stop()
    const puts = ground.storages[0]?.puts
    const again = await ground.ship()
    await untilState(again, 'nothing', isIdle)
    t.equal(ground.storages[0]?.puts, puts)
  })
})

await t.test('histories and labels', async (t) => {
  const ground = await shipGround(t)
  ground.known.add(system)
  await ground.fill(wal)
  const history = '1\t0/1500000\tno recovery target specified\n'
  await ground.put({
    '00000002.history': history,
    '00000003.history': '1\t0/150',
    [`${first}.00000028.backup`]: 'START',
  })
  const service = await ground.ship()
  const state = await untilState(service, 'all', isIdle)
  t.equal(state.repositories[0]?.quarantined.get('damaged'), 2, 'torn ones wait')
  t.same(await ground.stored(system), [...wal.names, '00000002.history'].toSorted())
  // A restored copy leaves the timeline elsewhere, under the same number.
  await service.stop()
  await ground.put({ '00000002.history': '1\t0/1700000\tbefore 2026-03-01\n' })
  const again = await ground.ship()
  await untilState(again, 'seen', ({ repositories }) => repositories[0]?.quarantined.get('contradicts') === 1)
  const { body } = (await ground.storages[0]?.get(`prod/wal/${system}/00000002.history`)) ?? {}
  t.equal(body && (await buffer(body)).toString(), history, 'the first one stays')
  t.match(await ground.quarantined(), [new RegExp(`^${system}/00000002\\.history-[0-9a-f]{12}\\.zst$`)])
})

await t.test('what is no file, or a link out of the archive', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal, [first, third])
  const service = await ground.ship()
  await untilState(service, 'two', isIdle)
  await writeFile(join(ground.archive, 'elsewhere'), await real(second))
  await symlink(join(ground.archive, 'elsewhere'), join(ground.archive, second))
  const pipe = rest[0] ?? ''
  await runProgram({ program: 'mkfifo', args: [join(ground.archive, `${pipe}`)] })
  const folder = rest[1] ?? ''
  await mkdir(join(ground.archive, folder))
  // The looks of this test would read them; the service has to cope by itself.
  const coverage = new WalCoverage(1024 * 1024, new Timelines())
  for (const name of [first, second, third, pipe, folder]) {
    const file = parseWalName(name, 1024 * 1024)
    if (file) coverage.add(file)
  }
  const archive = {
    ...{ directory: ground.archive, systemIdentifier: system, segmentSize: 1024 * 1024, segments: 5, partials: 0 },
    ...{ histories: 0, labels: 0, foreign: 0, bytes: 0, plainNames: [], partialNames: [], newest: null },
    ...{ coverage, revision: 7, capacity: null },
  }
  await service.stop()
  const again = await ground.ship({ archive: () => archive })
  const state = await untilState(again, 'looked at', isIdle)
  t.equal(state.repositories[0]?.quarantined.get('unreadable'), 3)
})

await t.test('the disk of the repository is full', async (t) => {
  const disk = await smallDisk(t, 700_000)
  if (disk === null) {
    t.comment(noSmallDisk)
    return
  }
  const ground = await shipGround(t, { repositories: 2 })
  await ground.fill(wal)
  const root = join(disk.directory, 'repository')
  const full = new Repository({
    name: 'full',
    cluster: 'prod',
    storage: new LocalStorage({ root }),
    clock: systemClock,
  })
  const stored = { systems: new Map(), revision: 1, listedAt: new Date() }
  const service = await ground.ship({
    repositories: [...ground.repositories, full],
    stored: (repository) => ({ ...stored, repository }),
  })
  const state = await untilState(service, 'full', ({ repositories }) => {
    const isDone = repositories.slice(0, 2).every(({ queued, inFlight }) => queued === 0 && inFlight === 0)
    return isDone && repositories[2]?.failure?.code === 'disk-full'
  })
  t.match(state.repositories[2]?.failure, { hint: /free space/ })
  t.same(await ground.stored(system, 0), wal.names)
  t.same(await ground.stored(system, 1), wal.names)
  await disk.resize(50_000_000)
  await untilState(
    service,
    'the rest',
    ({ repositories }) => repositories[2]?.queued === 0 && repositories[2].inFlight === 0,
  )
  t.equal(service.state().repositories[2]?.shippedSegments, wal.names.length, 'nothing is lost')
})

await t.test('somebody else fills the archive: only so much of it is copied', async (t) => {
  const ground = await shipGround(t)
  ground.known.add('7000000000000000000')
  const size = 1024 * 1024
  const bytes = await readFile(join(other.directory, second))
  const files: Record<string, Buffer> = {}
  for (let number = 0; number < 120; number += 1) {
    const copy = Buffer.from(bytes)
    copy.writeBigUInt64LE(BigInt(number) * BigInt(size), 8)
    files[`00000001${'0'.repeat(8)}${number.toString(16).toUpperCase().padStart(8, '0')}`] = copy
  }
  await ground.put(files)
  const service = await ground.ship()
  const state = await untilState(service, 'all looked at', isIdle)
  t.equal(state.repositories[0]?.quarantined.get('foreign'), 120)
  t.equal((await ground.quarantined()).length, 100)
  t.equal(
    ground.lines.filter(({ msg, level }) => msg === 'a file of the WAL archive is not shipped' && level === 40).length,
    1,
  )
})
