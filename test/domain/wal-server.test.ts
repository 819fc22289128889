import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { formatLsn, parseLsn } from '../../src/domain/lsn.ts'
import { parseHistory, type TimelineHistory, Timelines } from '../../src/domain/timeline.ts'
import { firstLsn, parseWalName, segmentAt, segmentName, type WalFile, walName } from '../../src/domain/wal.ts'
import { checkFirstPage, type ExpectedSegment, readWalPageHeader } from '../../src/domain/wal-page.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { cannotHave, type Major, startCluster } from '../support/postgres.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'

const lsn = (text: string) => parseLsn(text) as bigint

/** What a real server archives: 1 leads to 2 and that to 3, 1 also to 4. Small segments begin shortly before a log's end. */
async function archivingCluster(t: Test, major: Major, megabytes: number, firstSegment: number) {
  const segmentSize = megabytes * 1024 * 1024
  const archive = await openDirectory(t)
  const copy = join(await scratchDirectory(t), 'copy')
  const cluster = await startCluster(t, {
    major,
    initdbArgs: ['-E', 'UTF8', '--locale=C', `--wal-segsize=${megabytes}`],
    settings: {
      archive_mode: 'on',
      archive_command: `cp %p ${archive}/%f`,
      restore_command: `cp ${archive}/%f %p`,
      min_wal_size: `${2 * megabytes}MB`, // little to copy
      hot_standby: 'off', // it is ready when the recovery has ended
    },
  })
  const { installation, server } = cluster
  const user = await serverOsUser('postgres')
  const data = server.dataDirectory
  const tell = async (program: string, ...args: string[]) =>
    (await runProgram({ program: programPath(installation, program), args, user })).stdout
  const control = async () => {
    const lines = (await tell('pg_controldata', '-D', data)).split('\n').map((line) => line.split(/:\s+/))
    return (name: string) => lines.find(([key]) => key === name)?.[1] ?? ''
  }
  /** Fills segments until there are so many more, and says where the server stood each time. */
  const write = async (segments: number) => {
    const places: { place: string; name: string }[] = []
    for (let written = 0; written < segments; written++) {
      await cluster.sql('create table if not exists rows (n int)')
      await cluster.sql('insert into rows select generate_series(1, 100)')
      places.push(
        ...(await cluster.sql<{ place: string; name: string }>(
          'select place::text, pg_walfile_name(place) as name from pg_current_wal_insert_lsn() as place',
        )),
      )
      await cluster.sql('select pg_switch_wal()')
    }
    return places
  }
  /** Lets the server recover what is archived and take a timeline of its own; from the copy if a target is given. */
  const fork = async (target?: number) => {
    if (target !== undefined) {
      await rm(data, { recursive: true })
      await runProgram({ program: 'cp', args: ['-a', copy, data] })
      await writeFile(join(data, 'postgresql.auto.conf'), `recovery_target_timeline = '${target}'\n`)
    }
    await writeFile(join(data, 'recovery.signal'), '')
    await server.start()
  }
  await server.stop()
  await tell('pg_resetwal', '-l', segmentName(1, firstSegment, segmentSize), '-D', data)
  await server.start()
  const places = await write(2)
  await server.stop() // archives what is finished
  await runProgram({ program: 'cp', args: ['-a', data, copy] })
  const begin = lsn((await control())("Latest checkpoint's REDO location"))
  await server.start()
  places.push(...(await write(2)))
  for (const target of [undefined, undefined, 1]) {
    await server.stop()
    await fork(target)
    places.push(...(await write(2)))
  }
  await server.stop()

  const listing = async () => {
    const files: { name: string; file: WalFile }[] = []
    for (const name of await readdir(archive)) {
      const file = parseWalName(name, segmentSize)
      if (file === null) throw new Error(`foreign: ${name}`)
      files.push({ name, file })
    }
    return files
  }
  const history = async (timeline: number): Promise<TimelineHistory> => {
    const name = walName({ kind: 'history', timeline }, segmentSize)
    return parseHistory(timeline, await readFile(join(archive, name), 'utf8'))
  }
  const coverage = async () => {
    const made = new WalCoverage(segmentSize, new Timelines())
    for (const { file } of await listing()) {
      made.add(file)
      if (file.kind === 'history') made.timelines.add(await history(file.timeline))
    }
    return made
  }
  /** Where a real recovery from the copy to a timeline ends. */
  const recover = async (target: number) => {
    await fork(target)
    await server.stop()
    const newest = Math.max(...(await listing()).map(({ file }) => file.timeline))
    return new Timelines([await history(newest)]).lineage(newest).at(-2)
  }
  return { archive, segmentSize, begin, places, control, tell, listing, history, coverage, recover }
}

/** The first page of a file. */
async function readHead(path: string, length = 8192): Promise<Buffer> {
  const file = await open(path)
  try {
    return (await file.read(Buffer.alloc(length), 0, length, 0)).buffer
  } finally {
    await file.close()
  }
}

for (const [major, megabytes, firstSegment] of [
  [15, 1, 0xffd],
  [17, 16, 3],
  [18, 4, 0x3fe],
] as const) {
  const skip = await cannotHave(major)
  t.test(`PostgreSQL ${major} with segments of ${megabytes} MB`, { skip, timeout: 120_000 }, async (t) => {
    const cluster = await archivingCluster(t, major, megabytes, firstSegment)
    const { archive, segmentSize, begin, control, listing, history, coverage } = cluster
    const told = await control()
    t.equal(told('Bytes per WAL segment'), String(segmentSize))

    t.test('names', async (t) => {
      t.equal(cluster.places.length, 10)
      for (const { place, name } of cluster.places) {
        const timeline = Number.parseInt(name.slice(0, 8), 16)
        t.equal(segmentName(timeline, segmentAt(lsn(place), segmentSize), segmentSize), name, place)
      }
      const redo = lsn(told("Latest checkpoint's REDO location"))
      const timeline = Number(told("Latest checkpoint's TimeLineID"))
      t.equal(
        segmentName(timeline, segmentAt(redo, segmentSize), segmentSize),
        told("Latest checkpoint's REDO WAL file"),
      )
      const kinds = Object.groupBy(await listing(), ({ file }) => file.kind)
      t.same(kinds.history?.map(({ name }) => name).sort(), [
        '00000002.history',
        '00000003.history',
        '00000004.history',
      ])
      t.ok((kinds.segment?.length ?? 0) >= 9)
      t.ok((kinds.partial?.length ?? 0) >= 1, 'of the segments that were left')
    })

    t.test('histories', async (t) => {
      const timelines = (await coverage()).timelines
      t.same(timelines.known(), [1, 2, 3, 4])
      t.same(
        timelines.lineage(3).map(({ timeline }) => timeline),
        [1, 2, 3],
      )
      t.same(
        timelines.lineage(4).map(({ timeline }) => timeline),
        [1, 4],
      )
      t.same(
        timelines
          .forks(1)
          .map(({ timeline }) => timeline)
          .sort((a, b) => a - b),
        [2, 4],
      )
      t.equal(timelines.newestFrom({ timeline: 1, lsn: begin }), 4)
    })

    t.test('first pages', async (t) => {
      const systemIdentifier = told('Database system identifier')
      let copied = 0
      for (const { name, file } of await listing()) {
        if (file.kind !== 'segment' && file.kind !== 'partial') continue
        const path = join(archive, name)
        const [head, { size }] = [await readHead(path), await stat(path)]
        const { timeline, segment } = file
        const known = timeline === 1 ? null : await history(timeline)
        const expected: ExpectedSegment = { timeline, segment, segmentSize, systemIdentifier, major, history: known }
        t.equal(checkFirstPage(head, size, expected), null, name)
        t.match(readWalPageHeader(head), {
          major,
          systemIdentifier,
          segmentSize,
          address: firstLsn(segment, segmentSize),
          pageSize: Number(told('WAL block size')),
        })
        if (file.kind === 'partial') continue
        const record = await cluster.tell('pg_waldump', '--limit=1', path)
        const place = /lsn: ([0-9A-F]+\/[0-9A-F]+)/.exec(record)?.[1] ?? ''
        t.equal(segmentAt(lsn(place), segmentSize), segment, `pg_waldump reads ${place} from ${name}`)
        if (readWalPageHeader(head)?.timeline !== timeline) copied++
        t.equal(checkFirstPage(head, size, { ...expected, segment: segment + 1 }), 'other-place')
        t.equal(checkFirstPage(head, size - 1, expected), 'short')
        t.equal(checkFirstPage(head, size, { ...expected, systemIdentifier: '7' }), 'foreign')
        t.equal(checkFirstPage(head, size, { ...expected, major: 14 }), 'other-version')
      }
      t.ok(copied >= 1, 'of a fork inside a segment')
    })

    t.test('coverage', async (t) => {
      const held = await coverage()
      const from = { timeline: 1, lsn: begin }
      for (const target of [2, 3, 4]) {
        const reach = held.reach({ from, target })
        const last = held.segments(target).last ?? 0
        t.same(reach?.end, { timeline: target, lsn: firstLsn(last + 1, segmentSize) }, `to the end of ${target}`)
        t.same([...held.gaps({ from, target })], [])
      }
      const reach = held.reach({ from, target: 3 })
      const ended = await cluster.recover(3)
      t.same(ended && { timeline: ended.timeline, lsn: ended.end }, reach?.end, 'so far a real recovery comes')

      const hole = held.segments(2).first as number
      await rm(join(archive, segmentName(2, hole + 1, segmentSize)))
      const holed = await coverage()
      t.same([...holed.gaps({ from, target: 3 })], [{ timeline: 2, first: hole + 1, last: hole + 1 }])
      const end = holed.reach({ from, target: 3 })?.end
      t.same(end, { timeline: 2, lsn: firstLsn(hole + 1, segmentSize) })
      const stopped = await cluster.recover(3)
      t.equal(stopped?.timeline, 2)
      t.equal(formatLsn(stopped?.end ?? 0n), formatLsn(end?.lsn ?? 0n), 'and no further over a hole')
    })
  })
}
