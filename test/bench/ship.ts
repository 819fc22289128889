import {
  chmod,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { memoryUsage } from 'node:process'
import pino from 'pino'
import { systemClock } from '../../src/clock.ts'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { defaultSegmentSize, firstLsn, segmentName } from '../../src/domain/wal.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import type { WalArchiveState } from '../../src/observe/wal-state.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { chooseServer, findInstallations, programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { startScratchServer } from '../../src/postgres/scratch-server.ts'
import { Repository } from '../../src/repository/repository.ts'
import { createShipper } from '../../src/shipping/shipper.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { type Figure, mebibytes } from './table.ts'

const perSecond = 20
const seconds = 15
const different = 16
const wanted = { wal_level: 'replica', max_wal_senders: '4', wal_keep_size: '8GB', max_wal_size: '512MB' }

/** How soon segments of 16 MiB are stored that come at a steady rate, and how many can be shipped a second at most. */
export async function benchShip(base: string): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'ship-'))
  await chmod(directory, 0o777)
  try {
    const segments = await walOfPgbench(directory)
    const steady = await ship(directory, segments, 1000 / perSecond)
    const most = await ship(directory, segments, 0)
    const sealed = await ship(directory, segments, 0, new Cipher(encryptingFor([await ageKey(directory)], null)))
    const p99 = steady.delays[Math.floor(steady.delays.length * 0.99)] ?? Number.NaN
    const growth = steady.end - steady.middle
    return [
      {
        what: `archived to stored in a directory at ${perSecond} segments of 16 MiB a second for ${seconds} s, p99 (median ${steady.delays[Math.floor(steady.delays.length / 2)]} ms)`,
        measured: `${(p99 / 1000).toFixed(2)} s`,
        goal: '2 s',
        met: p99 <= 2000,
      },
      {
        what: 'segments shipped a second, when all are there at once',
        measured: (most.delays.length / most.took).toFixed(0),
        goal: `at least ${perSecond}`,
        met: most.delays.length / most.took >= perSecond,
      },
      {
        what: `the same encrypted (plain in the same run: ${(most.delays.length / most.took).toFixed(0)})`,
        measured: (sealed.delays.length / sealed.took).toFixed(0),
        goal: `at least ${perSecond}`,
        met: sealed.delays.length / sealed.took >= perSecond,
      },
      {
        what: `memory after ${perSecond * seconds} segments (${mebibytes(steady.end)}) against half of them`,
        measured: `${growth < 0 ? '-' : '+'}${mebibytes(Math.abs(growth))}`,
        goal: 'at most 16 MiB',
        met: growth <= 16 * 1024 * 1024,
      },
    ]
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Whole segments that a server wrote under pgbench. */
async function walOfPgbench(directory: string): Promise<readonly string[]> {
  const installation = chooseServer(await findInstallations(null), 15)
  const user = await serverOsUser('postgres')
  const server = await startScratchServer({
    installation,
    directory: join(directory, 'cluster'),
    osUser: user,
    superuser: 'postgres',
    workFolder: directory,
    // Only what was written has a file; and it is written fast.
    settings: { ...wanted, wal_recycle: 'off', fsync: 'off', synchronous_commit: 'off' },
  })
  try {
    const wal = join(server.dataDirectory, 'pg_wal')
    const pgbench = (args: readonly string[]) =>
      runProgram({
        program: programPath(installation, 'pgbench'),
        args: ['-h', server.source.host, '-U', 'postgres', ...args, 'postgres'],
        user,
        cwd: directory,
      })
    await pgbench(['-i', '-q', '-s', '30'])
    const whole = async () =>
      (await readdir(wal))
        .filter((name) => /^[0-9A-F]{24}$/.test(name))
        .toSorted()
        .slice(0, -2)
    const first = (await whole()).length
    while ((await whole()).length < first + different) {
      await pgbench(['-c', '4', '-T', '5'])
      await withSession(server.source, { database: 'postgres' }, (session) => session.query('checkpoint'))
    }
    const kept = join(directory, 'kept')
    await mkdir(kept, { recursive: true })
    const paths: string[] = []
    for (const name of (await whole()).slice(first, first + different)) {
      await copyFile(join(wal, name), join(kept, name))
      paths.push(join(kept, name))
    }
    return paths
  } finally {
    await server.remove()
  }
}

/**
 * Puts segments into an archive, one each so many milliseconds, and ships them. Each is another place of the WAL, so it has
 * headers of its own: the first page of each is written anew, the pages behind it as well.
 */
async function ship(directory: string, sources: readonly string[], everyMs: number, cipher: Cipher | null = null) {
  const [archive, root] = [await mkdtemp(join(directory, 'archive-')), join(directory, `repository-${everyMs}`)]
  const count = perSecond * seconds
  const repository = new Repository({
    name: 'local',
    cluster: 'bench',
    storage: new LocalStorage({ root }),
    clock: systemClock,
  })
  const coverage = new WalCoverage(defaultSegmentSize, new Timelines())
  let state: WalArchiveState | null = null
  const delays: number[] = []
  const all = Promise.withResolvers<void>()
  let middle = 0
  const shipper = createShipper({
    archive: () => state,
    stored: (name) => ({ repository: name, systems: new Map(), revision: 1, listedAt: new Date() }),
    repositories: [repository],
    isOurs: () => true,
    systemIdentifiers: () => new Set(),
    onStored: (_, __, delayMs) => {
      delays.push(delayMs)
      if (delays.length === count / 2) middle = memoryUsage.rss()
      if (delays.length === count) all.resolve()
    },
    parallel: 4,
    level: 1,
    cipher,
    keepInArchiveMs: null,
    clock: systemClock,
    log: pino({ level: 'warn' }),
  })
  const add = (number: number) => {
    coverage.add({ kind: 'segment', timeline: 1, segment: number })
    state = stateOf(archive, coverage, number)
    shipper.hint()
  }
  const made = await prepare(join(directory, 'prepared'), sources, count)
  shipper.start()
  const start = systemClock.monotonic()
  for (const [index, path] of made.entries()) {
    const due = start + index * everyMs - systemClock.monotonic()
    if (due > 0) await systemClock.sleep(due)
    const name = segmentName(1, index + 1, defaultSegmentSize)
    const now = new Date()
    await utimes(path, now, now)
    await link(path, join(archive, `${name}.tmp`))
    await rename(join(archive, `${name}.tmp`), join(archive, name))
    if (everyMs > 0) add(index + 1)
  }
  const from = everyMs > 0 ? start : systemClock.monotonic()
  if (everyMs === 0) {
    coverage.segments(1).addRange(1, count)
    add(count)
  }
  const keep = setInterval(() => {}, 1000)
  await all.promise
  clearInterval(keep)
  const took = (systemClock.monotonic() - from) / 1000
  await shipper.stop()
  for (const path of [archive, root]) await rm(path, { recursive: true })
  return { delays: delays.toSorted((a, b) => a - b), took, middle, end: memoryUsage.rss() }
}

/** As many segments as are wanted, of the content of those that are given, each made to be at its own place of the WAL. */
async function prepare(directory: string, sources: readonly string[], count: number): Promise<readonly string[]> {
  await mkdir(directory, { recursive: true })
  const paths: string[] = []
  for (let number = 1; number <= count; number += 1) {
    const path = join(directory, String(number))
    paths.push(path)
    if (await stat(path).catch(() => null)) continue
    const bytes = await readFile(sources[number % sources.length] ?? '')
    const first = firstLsn(number, defaultSegmentSize)
    for (let at = 0; at < bytes.length; at += 8192) bytes.writeBigUInt64LE(first + BigInt(at), at + 8)
    // What is still to be written to the disk would be measured as well.
    await writeFile(path, bytes, { flush: true })
  }
  return paths
}

function stateOf(directory: string, coverage: WalCoverage, newest: number): WalArchiveState {
  return {
    ...{ directory, systemIdentifier: null, segmentSize: defaultSegmentSize, coverage, revision: newest },
    ...{ segments: newest, partials: 0, histories: 0, labels: 0, foreign: 0, bytes: 0, capacity: null },
    ...{ plainNames: [], partialNames: [], newest: null },
  }
}
