import { once } from 'node:events'
import {
  appendFile,
  chmod,
  cp,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { notInspected } from '../../src/domain/external.ts'
import type { FileState } from '../../src/domain/external-file.ts'
import { compilePattern } from '../../src/domain/file-pattern.ts'
import { externalId, type WatchState } from '../../src/observe/external-catalog.ts'
import { findExternalFiles, surveyFiles } from '../../src/observe/external-targets.ts'
import { WatchedDirectory, type WatchedPlace } from '../../src/observe/watched-directory.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'

const quietMs = 30_000
const pattern = compilePattern('{database}_backup_{timestamp}{ext}')
const name = 'app_backup_20260101_020000'
const old = new Date(Date.now() - 86_400_000)
const signal = new AbortController().signal

function placeAt(directory: string): WatchedPlace {
  return {
    name: 'nightly',
    directory,
    match: pattern,
    database: null,
    quietMs,
    maxAgeSeconds: 93_600,
    minBytes: 1,
    shrinkBelow: 0.5,
    inspectNewest: 10,
  }
}

/** A watch whose looks and time the test decides on. Files, events, locks and processes are real. */
async function watch(t: Test, directory: string, clock: FakeClock) {
  const inspected: string[] = []
  let hint = Promise.withResolvers<void>()
  const watched = new WatchedDirectory({
    place: placeAt(directory),
    inspect: async (path) => {
      inspected.push(path.slice(directory.length + 1))
      return { ...notInspected(''), state: 'sound', detail: null }
    },
    store: { inspections: () => new Map(), keepInspection: () => {} },
    proofs: () => new Map(),
    holds: () => new Map(),
    clock,
    log: keptLog().log,
    onHint: () => hint.resolve(),
  })
  t.teardown(() => watched.close())
  const alive = setInterval(() => {}, 60_000)
  t.teardown(() => clearInterval(alive))
  const look = () => watched.look(signal)
  /** Looks until what is finished has been read, too. */
  async function settled(): Promise<WatchState> {
    for (;;) {
      hint = Promise.withResolvers()
      const state = await look()
      if (state.files.get('pending') === 0) return state
      await hint.promise
    }
  }
  return {
    inspected,
    look,
    settled,
    stateOf: async (file: string) => (await settled()).details(externalId('nightly', file))?.state ?? null,
    /** Until the look that sees it; events come when the system sends them. */
    until: async (file: string, state: FileState | null) => {
      for (;;) {
        const found = (await settled()).details(externalId('nightly', file))?.state ?? null
        if (found === state) return
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
  }
}

/** A process that has a file open for writing and does nothing. */
async function holdOpen(t: Test, path: string) {
  const program = await startProgram({
    program: 'sh',
    args: ['-c', 'exec 3>>"$1"; echo open; exec sleep 600', 'sh', path],
  })
  const stop = async () => {
    program.kill('SIGKILL')
    await program.exited
  }
  t.teardown(stop)
  await once(program.stdout, 'data')
  program.stdout.resume()
  return stop
}

t.test('a dump in directory format, while one of its files grows', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock(new Date())
  const { look, until, stateOf, inspected } = await watch(t, directory, clock)
  await look()
  await mkdir(join(directory, name))
  await writeFile(join(directory, name, '3001.dat'), 'row\n')
  await until(name, 'growing')
  const before = (await stat(join(directory, name))).mtimeMs
  for (let minute = 0; minute < 5; minute += 1) {
    await appendFile(join(directory, name, '3001.dat'), 'row\n')
    t.equal(await stateOf(name), 'growing')
    await clock.advance(quietMs - 1)
    t.equal(await stateOf(name), 'growing', 'by what is in it')
  }
  t.equal((await stat(join(directory, name))).mtimeMs, before, 'nothing about the directory itself has changed')
  const release = await holdOpen(t, join(directory, name, '3001.dat'))
  await clock.advance(1)
  t.equal(await stateOf(name), 'growing', 'open in a program')
  await release()
  await clock.advance(quietMs)
  t.equal(await stateOf(name), 'sound')
  t.same(inspected, [name])

  const copy = 'app_backup_20260102_020000'
  await writeFile(join(directory, name, 'toc.dat'), 'toc')
  for (const member of await readdir(join(directory, name))) await utimes(join(directory, name, member), old, old)
  await cp(join(directory, name), join(directory, `${copy}.tmp`), { recursive: true, preserveTimestamps: true })
  await rename(join(directory, `${copy}.tmp`), join(directory, copy))
  await until(copy, 'sound')
  t.pass('renamed into place it is there at once')

  const coming = 'app_backup_20260103_020000'
  await mkdir(join(directory, coming))
  await cp(join(directory, name, 'toc.dat'), join(directory, coming, 'toc.dat'), { preserveTimestamps: true })
  await until(coming, 'growing')
  t.pass('copied with its times, it is not finished by those of its first file')
})

t.test('open for writing', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock(new Date())
  for (const file of [`${name}.sql`, 'b_backup_20260101_020000.sql', 'c_backup_20260101_020000.sql']) {
    await writeFile(join(directory, file), file.startsWith('c') ? '' : 'rows')
    await utimes(join(directory, file), old, old)
  }
  const release = await holdOpen(t, join(directory, `${name}.sql`))
  await holdOpen(t, join(directory, 'c_backup_20260101_020000.sql'))
  const reader = await open(join(directory, 'b_backup_20260101_020000.sql'))
  t.teardown(() => reader.close())

  const place = placeAt(directory)
  const surveyed = await surveyFiles(place, { store: null, clock, signal })
  t.same(
    Object.fromEntries(surveyed.map(({ database, state }) => [database, state])),
    { app: 'growing', b: 'pending', c: 'growing' },
    'by a look without a sidecar too',
  )
  const targets = await findExternalFiles(place, { id: null, database: null, clock, signal })
  t.same(
    targets.map(({ database }) => database),
    ['b'],
    'what is written is not verified',
  )

  const { settled, stateOf, inspected } = await watch(t, directory, clock)
  const first = await settled()
  t.match(
    Object.fromEntries(first.files),
    { growing: 2, sound: 1, empty: 0 },
    'one that nobody wrote to yet is not empty',
  )
  t.same(inspected, ['b_backup_20260101_020000.sql'])
  await clock.advance(quietMs)
  t.equal(await stateOf(`${name}.sql`), 'growing', 'for as long as it is open')
  await release()
  await clock.advance(quietMs)
  t.equal(await stateOf(`${name}.sql`), 'sound')
})

t.test('the inode of a removed file is used again', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock(new Date())
  const { look, until, stateOf } = await watch(t, directory, clock)
  await look()
  let reused = 0
  for (let day = 1; day <= 9; day += 1) {
    const [lock, dump] = [join(directory, `lock${day}`), join(directory, `app_backup_2026010${day}_020000.sql`)]
    await writeFile(lock, `${process.pid}\n`)
    await look()
    const { ino } = await stat(lock)
    await unlink(lock)
    await writeFile(dump, 'the first rows')
    if ((await stat(dump)).ino === ino) reused += 1
    await until(`app_backup_2026010${day}_020000.sql`, 'growing')
    t.equal(await stateOf(`app_backup_2026010${day}_020000.sql`), 'growing')
  }
  t.comment(`${reused} of 9 inodes were used again`)
})

t.test('clocks that are set', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock(new Date())
  const { look, until, stateOf } = await watch(t, directory, clock)
  await look()
  await writeFile(join(directory, `${name}.sql`), 'rows')
  await until(`${name}.sql`, 'growing')
  clock.jump(new Date(clock.now().getTime() + 366 * 86_400_000))
  t.equal(await stateOf(`${name}.sql`), 'growing', 'a year ahead')
  await clock.advance(quietMs - 1)
  t.equal(await stateOf(`${name}.sql`), 'growing')
  clock.jump(new Date(clock.now().getTime() - 366 * 86_400_000 - 3_600_000))
  await clock.advance(1)
  t.equal(await stateOf(`${name}.sql`), 'sound', 'an hour back')

  const [ahead, second] = ['app_backup_20270101_020000.sql', 'app_backup_20270102_020000.sql']
  const later = new Date(Date.now() + 3_600_000)
  await writeFile(join(directory, ahead), 'rows')
  await utimes(join(directory, ahead), later, later)
  await until(ahead, 'growing')
  await clock.advance(quietMs)
  t.equal(await stateOf(ahead), 'sound', 'its time lies in the future')

  clock.jump(new Date(clock.now().getTime() + 2 * 3_600_000))
  await writeFile(join(directory, second), 'rows')
  await until(second, 'growing')
  t.equal(await stateOf(second), 'growing', 'the clock of the file server is slow: what is new looks old')
  await clock.advance(quietMs)
  t.equal(await stateOf(second), 'sound')
})

t.test('a name that is no UTF-8', async (t) => {
  const directory = await scratchDirectory(t)
  const bytes = Buffer.concat([
    Buffer.from(`${directory}/caf`),
    Buffer.from([0xe9]),
    Buffer.from('_backup_20260101_020000.sql'),
  ])
  const shown = 'caf\ufffd_backup_20260101_020000.sql'
  await writeFile(bytes, 'rows')
  await writeFile(join(directory, `${name}.sql`), 'rows')
  const clock = new FakeClock(new Date())
  const { look, stateOf, until, inspected } = await watch(t, directory, clock)
  await look()
  const state = await look()
  t.match(state.details(externalId('nightly', shown)), { file: shown, state: 'unreadable', detail: /no UTF-8/ })
  t.match(
    state.unusable.flatMap(({ failure }) => failure ?? []),
    [{ message: /is unreadable: .*rename it/, hint: /read it/ }],
  )
  await appendFile(bytes, 'more')
  await appendFile(join(directory, `${name}.sql`), 'more')
  await until(`${name}.sql`, 'growing')
  t.equal(await stateOf(shown), 'unreadable', 'what is heard of it does not make it vanish')
  t.same(inspected, [])
  t.notOk(
    (
      await findExternalFiles(placeAt(directory), { id: externalId('nightly', shown), database: null, clock, signal })
    )[0],
  )
  await rename(bytes, join(directory, 'café_backup_20260101_020000.sql'))
  await until('café_backup_20260101_020000.sql', 'sound')
  await clock.advance(3_600_000)
  await until(shown, null)
  t.pass('gone with the next listing')
})

t.test('a file that cannot be opened', async (t) => {
  const directory = await scratchDirectory(t)
  await chmod(directory, 0o755)
  const path = join(directory, `${name}.sql`)
  const folder = join(directory, 'dir_backup_20260101_020000')
  await mkdir(folder)
  for (const file of [path, join(folder, 'toc.dat')]) {
    await writeFile(file, 'rows')
    await utimes(file, old, old)
    await chmod(file, 0)
  }
  // Root may read everything. Only this process is another user, for a while.
  const root = process.geteuid?.() === 0
  const asNobody = () => root && process.seteuid?.(65_534)
  const asRoot = () => root && process.seteuid?.(0)
  t.teardown(asRoot)
  asNobody()
  const clock = new FakeClock(new Date(Date.now() + quietMs))
  const { settled, until, inspected } = await watch(t, directory, clock)
  const state = await settled()
  t.match(Object.fromEntries(state.files), { unreadable: 2, unchecked: 0 })
  t.same(state.backups, [], 'nobody knows that it is one')
  t.match(state.details(externalId('nightly', `${name}.sql`)), { state: 'unreadable', detail: /EACCES/ })
  await settled()
  t.same(inspected, [])
  asRoot()
  await chmod(path, 0o644)
  asNobody()
  await until(`${name}.sql`, 'sound')
  t.pass('and is read as soon as it can be')
  asRoot()
  await chmod(join(folder, 'toc.dat'), 0o644)
  asNobody()
  await clock.advance(601_000)
  await until('dir_backup_20260101_020000', 'sound')
  t.pass('or some time later, where nothing is heard of it')
})

t.test('a directory that is made anew has lost its watch', async (t) => {
  const directory = join(await scratchDirectory(t), 'dumps')
  const clock = new FakeClock(new Date())
  await mkdir(directory)
  const { look, until } = await watch(t, directory, clock)
  await look()
  for (let round = 1; round <= 5; round += 1) {
    await rm(directory, { recursive: true })
    await mkdir(directory)
    await writeFile(join(directory, `app_backup_2026010${round}_020000.tmp`), 'rows')
    await until(`app_backup_2026010${round - 1}_020000.sql`, null)
    const file = `app_backup_2026010${round}_020000.sql`
    await rename(join(directory, file.replace('.sql', '.tmp')), join(directory, file))
    await until(file, 'sound')
  }
  t.pass('heard again each time, without any time going by')
})

t.test('what is written to for hours does not put off the listing', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock(new Date())
  const { settled, look } = await watch(t, directory, clock)
  await writeFile(join(directory, `${name}.sql`), 'rows')
  await settled()
  await settled()
  // Nothing but a listing shows it.
  await writeFile(Buffer.from(`${directory}/caf\xe9_backup_20260101_020000.sql`, 'latin1'), 'rows')
  let state = await look()
  for (let minute = 0; state.files.get('unreadable') === 0; minute += 1) {
    await appendFile(join(directory, `${name}.sql`), 'rows')
    await clock.advance(60_000)
    state = await look()
    if (minute > 100) break
  }
  t.equal(state.files.get('unreadable'), 1)
})
