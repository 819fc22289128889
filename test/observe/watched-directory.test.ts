import { appendFile, mkdir, open, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { notInspected } from '../../src/domain/external.ts'
import { compilePattern } from '../../src/domain/file-pattern.ts'
import { inspectDump } from '../../src/external/inspect.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import { externalId, type WatchState } from '../../src/observe/external-catalog.ts'
import type { InspectionStore } from '../../src/observe/inspections.ts'
import { createObserver } from '../../src/observe/observer.ts'
import type { WatchedPlace } from '../../src/observe/watched-directory.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { openHistory } from '../../src/runner/history.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'

const title = '--\n-- PostgreSQL database dump\n--\n\n'
const closing = '\n--\n-- PostgreSQL database dump complete\n--\n'
const dump = (rows = 10) => `${title}${'insert into a values (1);\n'.repeat(rows)}${closing}`
const old = new Date('2026-01-01T02:10:00Z')

interface Watched {
  readonly state: (passes: (state: WatchState) => boolean) => Promise<WatchState>
  readonly catalog: () => Catalog
  readonly inspected: string[]
  readonly lines: ReturnType<typeof keptLog>['lines']
  readonly stop: () => Promise<void>
}

/** Watches a directory for real. Nothing shows by the periodic look, unless the directory itself changes. */
async function watch(
  t: Test,
  directory: string,
  place: Partial<WatchedPlace> = {},
  store: InspectionStore = { inspections: () => new Map(), keepInspection: () => {} },
  intervalSeconds = 3_600,
): Promise<Watched> {
  const { log, lines } = keptLog()
  const inspected: string[] = []
  const observer = createObserver({
    repositories: [],
    watches: [
      {
        place: {
          name: 'nightly',
          directory,
          match: compilePattern('{database}_backup_{timestamp}{ext}'),
          database: null,
          quietMs: 3_600_000,
          maxAgeSeconds: 93_600,
          minBytes: 1,
          shrinkBelow: 0.5,
          inspectNewest: 3,
          ...place,
        },
        store,
        proofs: () => new Map(),
        holds: () => new Map(),
        inspect: (path, signal) => {
          inspected.push(path.slice(directory.length + 1))
          return inspectDump(path, { installations: [], signal })
        },
      },
    ],
    server: null,
    archiver: null,
    wal: null,
    databases: null,
    history: { jobs: () => [], backupFailures: () => [] },
    clock: systemClock,
    log,
    intervalSeconds,
    timeoutSeconds: 10,
  })
  const alive = setInterval(() => {}, 60_000)
  t.teardown(() => clearInterval(alive))
  t.teardown(() => observer.stop())
  observer.start()
  return {
    inspected,
    lines,
    catalog: () => observer.catalog(),
    stop: () => observer.stop(),
    state: (passes) =>
      new Promise((resolve) => {
        const end = observer.onChange(look)
        look(observer.catalog())
        function look({ watches: [state] }: Catalog) {
          if (state === undefined || !passes(state)) return
          end()
          resolve(state)
        }
      }),
  }
}

const settled = ({ files }: WatchState) => files.get('pending') === 0
const fileOf = (state: WatchState, name: string) => state.details(externalId('nightly', name))
const count = ({ files }: WatchState) => [...files.values()].reduce((sum, one) => sum + one, 0)

async function put(directory: string, name: string, contents: string | Buffer, at = old): Promise<void> {
  await writeFile(join(directory, name), contents)
  await utimes(join(directory, name), at, at)
}

t.test('what is there at the start', async (t) => {
  const directory = await scratchDirectory(t)
  const day = (number: number) => new Date(Date.UTC(2026, 0, number, 2, 5))
  for (let number = 1; number <= 8; number += 1) {
    await put(directory, `app_backup_2026010${number}_020000.sql`, dump(100), day(number))
  }
  await put(directory, 'app_backup_20260109_020000.sql', dump(3), day(9))
  await put(directory, 'cut_backup_20260101_020000.sql', title)
  await put(directory, 'empty_backup_20260101_020000.sql.gz', '')
  await put(directory, 'text_backup_20260101_020000.sql', 'pg_dump: error: connection refused')
  await put(directory, 'it\'s "odd"\n\u001b[31m_backup_20260101_020000.sql', dump())
  await put(directory, 'backup.log', 'no dump')
  await symlink('/etc/passwd', join(directory, 'link_backup_20260101_020000.sql'))
  await mkdir(join(directory, 'folder_backup_20260101_020000'))
  await utimes(join(directory, 'folder_backup_20260101_020000'), old, old)

  const history = openHistory({
    file: join(await scratchDirectory(t), 'state.db'),
    clock: systemClock,
    log: keptLog().log,
  })
  t.teardown(() => history.close())
  const store = history.external
  const { state, inspected, lines, stop } = await watch(t, directory, {}, store)
  const found = await state(settled)
  t.same(Object.fromEntries(found.files), {
    growing: 0,
    pending: 0,
    sound: 4,
    unchecked: 6,
    empty: 1,
    truncated: 2,
    'wrong-format': 1,
    corrupt: 0,
    unreadable: 0,
  })
  t.match(inspected[0], 'app_backup_20260109', 'the newest first')
  t.equal(found.backups.length, 10)
  t.match(fileOf(found, 'app_backup_20260109_020000.sql'), { state: 'sound', format: 'plain', notes: ['shrunken'] })
  t.match(
    fileOf(found, 'app_backup_20260101_020000.sql'),
    { state: 'unchecked', notes: [] },
    'too many to read them all',
  )
  t.match(fileOf(found, 'cut_backup_20260101_020000.sql'), { state: 'truncated', detail: /closing line/ })
  t.match(found.unusable.map(({ failure }) => failure?.message).join(), /"cut_backup.*" is truncated: /)
  t.same(found.databases, ['app', 'cut', 'empty', 'folder', 'it\'s "odd"\n\u001b[31m', 'text'].sort())
  const newest = found.backups.find(({ startedAt }) => startedAt.getTime() === Date.UTC(2026, 0, 9, 2))
  t.match(newest, {
    type: 'external',
    database: 'app',
    durationSeconds: 300,
    storedBytes: dump(3).length,
    id: /^external-/,
  })
  t.match(
    lines.find(({ msg, file }) => msg === 'file is no whole dump' && /^cut/.test(String(file))),
    { database: 'cut', directory, hint: /look at what writes it/ },
  )
  await stop()

  const again = await watch(t, directory, {}, store)
  await again.state(settled)
  t.same(again.inspected, [], 'a restart reads nothing twice')
})

t.test('files that come, grow and go', async (t) => {
  const directory = await scratchDirectory(t)
  const { state } = await watch(t, directory, { quietMs: 700 })
  await state((found) => count(found) === 0)

  await t.test('renamed into place, it is there at once', async (t) => {
    const begun = systemClock.monotonic()
    await writeFile(join(directory, 'app_backup_20260101_020000.sql.tmp'), dump())
    await rename(
      join(directory, 'app_backup_20260101_020000.sql.tmp'),
      join(directory, 'app_backup_20260101_020000.sql'),
    )
    const found = await state(({ files }) => files.get('sound') === 1)
    t.equal(found.backups.length, 1)
    t.ok(systemClock.monotonic() - begun < 5_000)
  })

  await t.test('while it is written it counts for nothing', async (t) => {
    const path = join(directory, 'app_backup_20260102_020000.sql')
    await writeFile(path, title)
    const growing = await state(({ files }) => files.get('growing') === 1)
    t.equal(growing.backups.length, 1)
    t.match(growing.unusable, [{ state: 'in-progress' }])
    await appendFile(path, `insert into a values (2);${closing}`)
    const found = await state(({ files }) => files.get('sound') === 2)
    t.match(fileOf(found, 'app_backup_20260102_020000.sql'), { state: 'sound' }, 'quiet, and then read')
  })

  await t.test('while somebody holds a lock on it, too', async (t) => {
    const path = join(directory, 'app_backup_20260103_020000.sql')
    await put(directory, 'app_backup_20260103_020000.sql', dump())
    const holder = await startProgram({ program: 'flock', args: ['--exclusive', path, 'sleep', '60'] })
    await (await open(path)).close()
    await appendFile(path, '-- more\n')
    await state((found) => fileOf(found, 'app_backup_20260103_020000.sql')?.state === 'growing')
    t.notOk(
      await Promise.race([state(({ files }) => files.get('sound') === 3), systemClock.sleep(1_500)]),
      'quiet, but locked',
    )
    holder.kill('SIGKILL')
    await holder.exited
    await state(({ files }) => files.get('sound') === 3)
  })

  await t.test('one that is replaced is read anew, one that is gone is gone', async (t) => {
    const path = join(directory, 'app_backup_20260101_020000.sql')
    await writeFile(`${path}.new`, title)
    await rename(`${path}.new`, path)
    const broken = await state(({ files }) => files.get('truncated') === 1)
    t.equal(broken.backups.length, 2)
    await rm(path)
    await state((found) => count(found) === 2)
  })
})

t.test('a directory that vanishes and comes back', async (t) => {
  const parent = await scratchDirectory(t)
  const directory = join(parent, 'dumps')
  const { state, catalog } = await watch(t, directory, {}, undefined, 0.2)
  const collector = () => catalog().collectors.find(({ collector }) => collector === 'watch:nightly')
  const until = async (passes: () => boolean) => {
    while (!passes()) await systemClock.sleep(20)
  }
  await until(() => collector()?.success === false)
  t.match(collector()?.failure, {
    code: 'storage-failed',
    message: /cannot read the watched directory .*ENOENT/,
    hint: /mount/,
  })
  await mkdir(directory)
  await put(directory, 'app_backup_20260101_020000.sql', dump())
  await state(({ files }) => files.get('sound') === 1)
  t.equal(collector()?.success, true)
  await rename(directory, join(parent, 'elsewhere'))
  await until(() => collector()?.success === false)
  t.equal(catalog().watches[0]?.backups.length, 1, 'what was seen last stays, and its collector says that it is old')
  await mkdir(directory)
  await put(directory, 'b_backup_20260102_020000.sql', dump())
  await state(({ databases, files }) => databases.includes('b') && files.get('sound') === 1)
  await put(directory, 'c_backup_20260102_020000.sql', dump())
  await state(({ files }) => files.get('sound') === 2)
})

t.test('what cannot be told', async (t) => {
  t.match(notInspected('no pg_restore'), { state: 'unchecked', detail: 'no pg_restore' })
  const directory = await scratchDirectory(t)
  await put(directory, 'app_backup_20260101_020000.dump', `PGDMP${'\0'.repeat(100)}`)
  const { state } = await watch(t, directory)
  const found = await state(settled)
  t.match(fileOf(found, 'app_backup_20260101_020000.dump'), { state: 'unchecked', detail: /only pg_restore/ })
  t.equal(found.backups.length, 1, 'counts as a backup: nothing says that it is none')
})
