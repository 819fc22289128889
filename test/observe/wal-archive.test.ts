import { linkSync, readFileSync, utimesSync, watch, writeFileSync } from 'node:fs'
import { appendFile, chmod, mkdir, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LifeboatError } from '../../src/domain/errors.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { WalArchive } from '../../src/observe/wal-archive.ts'
import type { WalArchiveState } from '../../src/observe/wal-state.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { noSmallDisk, scratchDirectory, smallDisk, unmount } from '../support/scratch.ts'
import { putSegment, systemIdentifier } from '../support/wal-segments.ts'

const mebibyte = 1024 * 1024
const name = (segment: number, timeline = 1, size = mebibyte) => segmentName(timeline, segment, size)
/** So many events the kernel keeps for a process; what comes after them is lost. */
const queued = Number(readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'))
const signal = new AbortController().signal

interface Watched {
  readonly archive: WalArchive
  readonly clock: FakeClock
  readonly lines: ReturnType<typeof keptLog>['lines']
  readonly look: () => Promise<WalArchiveState>
  /** Looks whenever a hint comes. The clock stands still, so that nothing is seen by a periodic listing. */
  readonly state: (passes: (state: WalArchiveState) => boolean) => Promise<WalArchiveState>
}

function watched(t: Test, directory: string): Watched {
  const { log, lines } = keptLog()
  const clock = new FakeClock()
  let hint = Promise.withResolvers<void>()
  const archive = new WalArchive({ directory, clock, log, onHint: () => hint.resolve() })
  const alive = setInterval(() => {}, 60_000) // a watch keeps no process alive
  t.teardown(() => clearInterval(alive))
  t.teardown(() => archive.close())
  return {
    archive,
    clock,
    lines,
    look: () => archive.look(signal),
    state: async (passes) => {
      for (;;) {
        const state = await archive.look(signal)
        if (passes(state)) return state
        await hint.promise
        hint = Promise.withResolvers()
      }
    },
  }
}

/** A watched archive of 1 MB segments, as `lifeboat-archive` needs it. */
async function makeArchive(t: Test, segments: number, size = mebibyte): Promise<Watched & { directory: string }> {
  const directory = await scratchDirectory(t)
  await mkdir(join(directory, '.incoming'))
  for (let segment = 1; segment <= segments; segment += 1) await putSegment(directory, name(segment, 1, size), { size })
  return { directory, ...watched(t, directory) }
}

const ranges = ({ coverage }: WalArchiveState, timeline = 1) =>
  [...(coverage?.segments(timeline).ranges() ?? [])].map(({ first, last }) => [first, last])

async function fails(t: Test, look: () => Promise<unknown>, message: RegExp): Promise<void> {
  const error = await look().then(
    () => t.fail('the look worked'),
    (failure: LifeboatError) => failure,
  )
  t.match(error, { code: 'storage-failed', message })
}

t.test('what is there at the start, and what is told of it', async (t) => {
  const directory = await scratchDirectory(t)
  await mkdir(join(directory, '.incoming'))
  await writeFile(join(directory, '.incoming', name(9)), 'half')
  for (const segment of [0xffd, 0xffe, 0xfff, 0x1000, 0x1002]) await putSegment(directory, name(segment))
  await putSegment(directory, name(0x1002, 2), { at: new Date('2026-02-01T10:00:00Z') })
  await writeFile(join(directory, '00000002.history'), '1\t1/240000\tno recovery target specified\n')
  await writeFile(join(directory, `${name(0xffe)}.00000028.backup`), 'START WAL LOCATION: 0/FFE00028\n')
  await putSegment(directory, `${name(0x1003)}.partial`)
  await writeFile(join(directory, 'core'), 'no WAL')
  await writeFile(join(directory, name(0xabc).toLowerCase()), 'lower case')
  await writeFile(join(directory, '000000000000000000000001'), 'timeline 0')
  await mkdir(join(directory, 'lost+found'))
  const { look, lines } = watched(t, directory)
  const state = await look()
  t.same(ranges(state), [
    [0xffd, 0x1000],
    [0x1002, 0x1002],
  ])
  t.same(ranges(state, 2), [[0x1002, 0x1002]])
  t.match(state, {
    directory,
    systemIdentifier,
    segmentSize: mebibyte,
    segments: 6,
    partials: 1,
    histories: 1,
    labels: 1,
    foreign: 3,
    plainNames: [`${name(0xffe)}.00000028.backup`, '00000002.history'],
    partialNames: [`${name(0x1003)}.partial`],
    newest: { name: name(0x1002, 2), at: new Date('2026-02-01T10:00:00Z') },
  })
  t.equal(state.coverage?.timelines.newestFrom({ timeline: 1, lsn: 0xffd00000n }), 2)
  t.ok(state.bytes > 7 * mebibyte && state.bytes < 7 * mebibyte + 1000, String(state.bytes))
  t.ok((state.capacity?.freeBytes ?? 0) > 0 && (state.capacity?.totalBytes ?? 0) > (state.capacity?.freeBytes ?? 0))
  t.same(lines, [])
  t.equal((await look()).revision, state.revision, 'nothing has changed')
})

t.test('an empty archive, and its first segment', async (t) => {
  const { directory, state, look } = await makeArchive(t, 0)
  t.match(await look(), { segments: 0, segmentSize: null, coverage: null, newest: null, systemIdentifier: null })
  await putSegment(directory, name(7))
  t.match(await state(({ segments }) => segments === 1), {
    segmentSize: mebibyte,
    systemIdentifier,
    newest: { name: name(7) },
  })
})

t.test('what comes and goes is heard of', async (t) => {
  const { directory, state, look } = await makeArchive(t, 3)
  const first = await look()
  for (let segment = 4; segment <= 6; segment += 1) {
    await putSegment(join(directory, '.incoming'), name(segment))
    await rename(join(directory, '.incoming', name(segment)), join(directory, name(segment)))
    const next = await state(({ segments }) => segments === segment)
    t.equal(next.newest?.name, name(segment))
    t.equal(next.coverage, first.coverage, 'it grows, and is not copied')
    t.not(next.revision, first.revision)
  }
  await rm(join(directory, name(1)))
  await rm(join(directory, name(2)))
  t.same(ranges(await state(({ segments }) => segments === 4)), [[3, 6]])
  await rm(join(directory, name(6)))
  t.equal((await state(({ segments }) => segments === 3)).newest?.name, name(5))
  for (const segment of [3, 4, 5]) await rm(join(directory, name(segment)))
  t.match(await state(({ segments }) => segments === 0), { newest: null, bytes: 0 }, 'all of it was pruned')
})

t.test('a segment that grows counts when it is whole', async (t) => {
  const { directory, state, look, clock, archive } = await makeArchive(t, 2)
  await look()
  const path = join(directory, name(3))
  await putSegment(directory, name(3), { length: 8192 })
  t.match(await state(({ bytes }) => bytes === 2 * mebibyte + 8192), {
    segments: 2,
    foreign: 0,
    newest: { name: name(2) },
  })
  await truncate(path, mebibyte)
  t.match(await state(({ segments }) => segments === 3), { newest: { name: name(3) }, bytes: 3 * mebibyte })

  await putSegment(directory, name(4), { length: 8192 })
  await state(({ bytes }) => bytes === 3 * mebibyte + 8192)
  await clock.advance(61_000)
  t.equal((await look()).foreign, 1, 'it stays as it is: it was cut off')

  await truncate(join(directory, name(1)), 100)
  t.same(ranges(await state(({ segments }) => segments === 2)), [[2, 3]], 'one that has lost its end')

  const partial = join(directory, `${name(5)}.partial`)
  await putSegment(directory, `${name(5)}.partial`, { length: 8192 })
  await state(({ partials }) => partials === 1)
  await truncate(partial, mebibyte)
  t.match(
    await state(({ bytes }) => bytes > 3 * mebibyte),
    { segments: 2 },
    'pg_receivewal has it in full length from the start',
  )
  await rename(partial, join(directory, name(5)))
  t.match(await state(({ segments }) => segments === 3), { partials: 0, partialNames: [], newest: { name: name(5) } })
  archive.doubt(name(5))
  t.equal((await state(() => true)).segments, 3)
})

t.test('a segment that was cut off at the start is seen when it is among the last, or doubted', async (t) => {
  const directory = await scratchDirectory(t)
  await mkdir(join(directory, '.incoming'))
  for (let segment = 0; segment < 100; segment += 1) await putSegment(directory, name(segment))
  await truncate(join(directory, name(0)), 5)
  await truncate(join(directory, name(99)), 50_000)
  const { archive, look, state } = watched(t, directory)
  t.same(ranges(await look()), [[0, 98]])
  archive.doubt(name(0))
  t.same(ranges(await state(({ segments }) => segments === 98)), [[1, 98]])
})

for (const size of [64 * mebibyte, 16 * mebibyte])
  t.test(`segments of ${size / mebibyte} MB`, async (t) => {
    const { directory, look, state } = await makeArchive(t, 0, size)
    const perLog = 4096 / (size / mebibyte)
    for (const segment of [perLog - 2, perLog - 1, perLog])
      await putSegment(directory, name(segment, 1, size), { size })
    await writeFile(join(directory, `000000010000000000000${perLog.toString(16).toUpperCase().padStart(3, '0')}`), '')
    const first = await look()
    t.match(first, { segmentSize: size, segments: 3, foreign: 1, bytes: 3 * size })
    t.same(ranges(first), [[perLog - 2, perLog]], 'one log follows the other')
    await putSegment(directory, name(perLog + 1, 1, size), { size })
    t.same(ranges(await state(({ segments }) => segments === 4)), [[perLog - 2, perLog + 1]])
  })

t.test('timelines that fork twice', async (t) => {
  const { directory, look, state } = await makeArchive(t, 4)
  await look()
  const history = (timeline: number, text: string) => writeFile(join(directory, `0000000${timeline}.history`), text)
  await history(2, '1\t0/280000\tno recovery target specified\n')
  await history(3, '1\t0/380000\tno recovery target specified\n')
  await putSegment(directory, name(2, 2))
  await putSegment(directory, name(3, 3))
  const forked = await state(({ segments, histories }) => segments === 6 && histories === 2)
  t.same(forked.coverage?.timelines.forks(1), [
    { timeline: 2, lsn: 0x28_0000n },
    { timeline: 3, lsn: 0x38_0000n },
  ])
  t.equal(forked.newest?.name, name(3, 3))
  await putSegment(directory, name(5))
  t.equal((await state(({ segments }) => segments === 7)).newest?.name, name(3, 3), 'the old one still archives')
  await rm(join(directory, '00000003.history'))
  const removed = await state(({ histories }) => histories === 1)
  t.same(removed.coverage?.timelines.known(), [1, 2])
})

t.test('a history that is torn, or is none', async (t) => {
  const { directory, look, state, lines, clock } = await makeArchive(t, 1)
  const path = join(directory, '00000003.history')
  await writeFile(path, '1\t0/28')
  await symlink('/etc/passwd', join(directory, '00000004.history'))
  t.match(await look(), { histories: 0, foreign: 2, plainNames: [] })
  const told = () => lines.filter(({ msg }) => String(msg).includes('history')).length
  t.equal(told(), 1)
  await appendFile(join(directory, 'other'), '')
  await look()
  await clock.advance(3_600_000)
  await look()
  t.equal(told(), 1, 'told once')
  await writeFile(path, '1\t0/280000\tno recovery target specified\n')
  t.match(await state(({ histories }) => histories === 1), { plainNames: ['00000003.history'] })
  await writeFile(path, '9\t0/280000\twhat is this\n')
  const torn = await state(({ histories }) => histories === 0)
  t.equal(told(), 2)
  t.notOk(torn.coverage?.timelines.isKnown(3))
})

t.test('hostile names', async (t) => {
  const { directory, look, clock, state } = await makeArchive(t, 2)
  await writeFile(join(directory, `${name(3)}\n`), '')
  await writeFile(join(directory, '\u001b[31m"\'; rm -rf *\n'), '')
  await writeFile(Buffer.concat([Buffer.from(`${directory}/0000`), Buffer.from([0xff, 0xfe])]), '')
  await mkdir(join(directory, name(3)))
  await symlink(name(1), join(directory, name(4)))
  await symlink('nowhere', join(directory, `${name(5)}.partial`))
  await symlink('.incoming', join(directory, 'link'))
  t.match(await look(), { segments: 2, partials: 0, foreign: 7, newest: { name: name(2) } })

  // The same, heard of.
  const other = await makeArchive(t, 2)
  await other.look()
  await writeFile(join(other.directory, `${name(3)}\n`), '')
  await writeFile(Buffer.concat([Buffer.from(`${other.directory}/0000`), Buffer.from([0xff, 0xfe])]), '')
  await mkdir(join(other.directory, name(3)))
  await symlink(name(1), join(other.directory, name(4)))
  await putSegment(other.directory, name(6))
  t.match(await other.state(({ segments }) => segments === 3), { foreign: 0 }, 'not for a moment only')
  await other.clock.advance(61_000)
  await other.look()
  await other.clock.advance(61_000)
  t.match(await other.look(), { segments: 3, foreign: 4, newest: { name: name(6) } })
  await rm(join(other.directory, name(4)))
  await putSegment(other.directory, name(4))
  t.same(ranges(await other.state(({ segments }) => segments === 4)), [
    [1, 2],
    [4, 4],
    [6, 6],
  ])
  await rm(join(directory, name(3)), { recursive: true })
  await putSegment(directory, name(3))
  await state(({ segments }) => segments === 3)
  await clock.advance(1)
  t.match(await look(), { segments: 3, foreign: 6 })
})

t.test('thousands at once, with more events than are delivered', async (t) => {
  const { directory, look, state } = await makeArchive(t, 3)
  await look()
  // Synchronously, so that the loop reads nothing meanwhile.
  for (let segment = 4; segment < queued + 1_000; segment += 1)
    linkSync(join(directory, name(1)), join(directory, name(segment)))
  await putSegment(directory, name(queued + 1_000))
  const all = await state(({ segments }) => segments === queued + 1_000)
  t.same(ranges(all), [[1, queued + 1_000]])
  t.equal(all.newest?.name, name(queued + 1_000))
})

t.test('events that are lost', async (t) => {
  const { directory, look, clock } = await makeArchive(t, 3)
  await look()
  await look()
  // The kernel has one queue for all watches of a process: another directory fills it.
  const other = await scratchDirectory(t)
  const full = watch(other, () => {})
  t.teardown(() => full.close())
  const paths = [join(other, 'a'), join(other, 'b')]
  for (const path of paths) writeFileSync(path, '')
  for (let count = 0; count < queued; count += 1) for (const path of paths) utimesSync(path, count, count)
  linkSync(join(directory, name(1)), join(directory, name(4)))
  t.same(ranges(await look()), [[1, 3]])
  t.same(ranges(await look()), [[1, 3]], 'nobody has heard of it')
  await clock.advance(1)
  t.same(ranges(await look()), [[1, 4]])
})

t.test('a clock that jumps changes nothing', async (t) => {
  const { directory, look, state, clock } = await makeArchive(t, 3)
  const { revision } = await look()
  clock.jump('2016-01-01T00:00:00Z')
  t.equal((await look()).revision, revision)
  await putSegment(directory, name(4), { at: new Date('2001-01-01') })
  t.equal((await state(({ segments }) => segments === 4)).newest?.name, name(4), 'it is the place that counts')
  clock.jump('2046-01-01T00:00:00Z')
  t.match(await look(), { segments: 4, foreign: 0 })
})

t.test('a server that was upgraded has another system identifier', async (t) => {
  const { directory, look, state, lines } = await makeArchive(t, 3)
  await putSegment(directory, name(4, 3), { at: new Date('2026-01-01T00:00:00Z') })
  await writeFile(join(directory, '00000003.history'), '1\t0/400000\tno recovery target specified\n')
  for (const segment of [1, 2, 3])
    await utimes(join(directory, name(segment)), new Date('2025-12-01'), new Date('2025-12-01'))
  t.match(await look(), { systemIdentifier, newest: { name: name(4, 3) } })
  await putSegment(directory, name(5), { system: '7999999999999999999', at: new Date('2026-01-02T00:00:00Z') })
  const upgraded = { systemIdentifier: '7999999999999999999', newest: { name: name(5) }, segments: 5 }
  t.match(await state(({ segments }) => segments === 5), upgraded)
  t.equal(lines.filter(({ msg }) => String(msg).startsWith('another cluster')).length, 1)
  t.match(await watched(t, directory).look(), upgraded, 'the same after a restart')
})

t.test('a new cluster with lower numbers and segments of another size', async (t) => {
  const { directory, look, state } = await makeArchive(t, 0)
  const old = new Date('2026-01-01T00:00:00Z')
  for (let segment = 8190; segment < 8200; segment += 1) await putSegment(directory, name(segment), { at: old })
  t.match(await look(), { segmentSize: mebibyte, segments: 10 })
  const size = 16 * mebibyte
  await putSegment(directory, name(1, 1, size), { size, system: '7999999999999999999' })
  const upgraded = {
    segmentSize: size,
    systemIdentifier: '7999999999999999999',
    segments: 1,
    newest: { name: name(1, 1, size) },
  }
  const after = await state(({ segmentSize }) => segmentSize === size)
  t.match(after, upgraded)
  t.equal(after.foreign, 2, 'names that no log of the new ones has count at once, the others later')
  const again = watched(t, directory)
  t.match(await again.look(), { ...upgraded, foreign: 2 }, 'the same after a restart')
  await again.clock.advance(61_000)
  t.match(await again.look(), { ...upgraded, foreign: 10 })
})

t.test('deleted, and made again', async (t) => {
  const { directory, look, state, lines } = await makeArchive(t, 3)
  const { revision } = await look()
  await rename(directory, `${directory}.away`)
  t.teardown(() => rm(`${directory}.away`, { recursive: true, force: true }))
  await fails(t, look, /cannot be read|cannot read the WAL archive .*ENOENT/)
  await mkdir(directory)
  await fails(t, look, /is not there/)
  await fails(t, look, /is not there/)
  await rm(directory, { recursive: true })
  await writeFile(directory, '')
  await fails(t, look, /ENOTDIR/)
  await rm(directory)
  await rename(`${directory}.away`, directory)
  t.match(await look(), { segments: 3 })
  t.ok((await look()).revision >= revision)
  await putSegment(directory, name(4))
  t.match(await state(({ segments }) => segments === 4), { newest: { name: name(4) } }, 'and is watched again')

  await rm(directory, { recursive: true })
  await mkdir(directory)
  await fails(t, look, /is not there/)
  await mkdir(join(directory, '.incoming'))
  t.match(await look(), { segments: 0, newest: null }, 'who makes it anew says that it is the archive')
  await putSegment(directory, name(5))
  t.same(ranges(await state(({ segments }) => segments === 1)), [[5, 5]])
  t.same(lines, [])
})

t.test('everything in it goes, with .incoming', async (t) => {
  const { directory, look, clock } = await makeArchive(t, 3)
  await look()
  for (const one of ['.incoming', name(1), name(2), name(3)]) await rm(join(directory, one), { recursive: true })
  await fails(t, look, /what was in it is gone/)
  await clock.advance(3_600_000)
  await fails(t, look, /what was in it is gone/)
})

t.test('without .incoming, an archive of another program may become empty', async (t) => {
  const directory = await scratchDirectory(t)
  await putSegment(directory, name(1))
  const { look, state } = watched(t, directory)
  t.equal((await look()).segments, 1)
  await rm(join(directory, name(1)))
  t.match(await state(({ segments }) => segments === 0), { newest: null })
})

t.test('a disk that is unmounted', async (t) => {
  const disk = await smallDisk(t, 8 * mebibyte)
  if (disk === null) {
    t.comment(noSmallDisk)
    return
  }
  const { directory } = disk
  await putSegment(directory, name(1))
  await mkdir(join(directory, '.incoming'))
  const { look } = watched(t, directory)
  t.match(await look(), { segments: 1, capacity: { totalBytes: 8 * mebibyte } })
  await unmount(directory)
  await fails(t, look, /what was in it is gone/)
  await putSegment(directory, name(2))
  await fails(t, look, /what was in it is gone/)
  await runProgram({ program: 'mount', args: ['-t', 'tmpfs', '-o', `size=${8 * mebibyte}`, 'tmpfs', directory] })
  await fails(t, look, /what was in it is gone/)
  await putSegment(directory, name(1))
  await mkdir(join(directory, '.incoming'))
  t.same(ranges(await look()), [[1, 1]])
})

t.test('a directory that cannot be read', async (t) => {
  const { directory, look } = await makeArchive(t, 1)
  t.match(await look(), { segments: 1 })
  if (userInfo().uid === 0) {
    t.comment('root may read everything')
    return
  }
  await chmod(join(directory, name(1)), 0)
  await fails(t, watched(t, directory).look, /EACCES/)
  await chmod(directory, 0)
  await fails(t, look, /EACCES/)
  await chmod(directory, 0o700)
  t.match(await look(), { segments: 1 })
})

t.test('segments that nobody can make out', async (t) => {
  const { directory, look, state } = await makeArchive(t, 0)
  await writeFile(join(directory, name(1)), Buffer.alloc(mebibyte))
  await putSegment(directory, name(2), { place: 77 })
  t.match(await look(), { segments: 0, segmentSize: null, coverage: null, foreign: 2 })
  await putSegment(directory, name(3))
  t.match(await state(({ segments }) => segments === 3), { foreign: 0, newest: { name: name(3) } })
})

t.test('a look that is aborted forgets nothing', async (t) => {
  const { directory, archive, look } = await makeArchive(t, 2)
  await look()
  await putSegment(directory, name(3))
  const reason = new Error('enough')
  for (let turn = 0; turn < 20; turn += 1) {
    const controller = new AbortController()
    const looking = archive.look(controller.signal)
    await Promise.resolve()
    controller.abort(reason)
    await t.rejects(looking, reason)
  }
  t.same(ranges(await look()), [[1, 3]])
})
