import { chmod, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { WalReport } from '../../src/observe/wal-report.ts'
import { archiveProgram } from '../../src/postgres/archiving.ts'
import type { Major } from '../support/postgres.ts'
import { type Served, serve } from '../support/serve.ts'
import { untilAnswer } from '../support/until.ts'
import { segmentBytes } from '../support/wal.ts'
import { finishSegment, metricOf, type WalGround, walGround, walReport } from '../support/wal-ground.ts'

interface Running extends WalGround {
  readonly served: Served
  readonly report: () => Promise<WalReport>
  readonly metric: (name: string) => Promise<number | undefined>
}

/** The real sidecar beside a real server that archives. */
async function run(t: Test, major: Major): Promise<Running> {
  const ground = await walGround(t, { major })
  const served = await serve(ground.archive.base, ground.yaml())
  t.teardown(() => served.end())
  return { ...ground, served, report: () => walReport(served), metric: (name) => metricOf(served, name) }
}

t.test('WAL goes from the server to the repository, and the recovery point follows', async (t) => {
  const ground = await run(t, 15)
  const { cluster, archive, root, served, report, metric } = ground
  await cluster.sql('create table t as select generate_series(1, 20000) as i')
  const name = await finishSegment(cluster)
  const stored = async () => {
    const files = await readdir(join(root, 'test', 'wal'), { recursive: true }).catch(() => [] as string[])
    return files.find((file) => file.includes(`${name}-`))
  }
  const key = (await untilAnswer('stored', stored)) as string
  t.match(key, /\.zst$/)
  const found = await untilAnswer('seen', async () => {
    const seen = await report()
    const [local] = seen.repositories
    return local?.backlogSegments === 0 && local.segments > 0 && seen.archive?.newest?.name === name ? seen : undefined
  })
  const [local] = found.repositories
  t.match(local, { repository: 'local', missingSegments: 0, gaps: [], hasBackup: false, recoveryPoint: null })
  t.equal(found.archive?.segments, local?.segments, 'all that was archived')
  t.equal(found.segmentSize, 2 ** 20)
  await untilAnswer('idle', async () => (await report()).archiver?.state === 'idle')
  t.equal(await metric('lifeboat_recovery_point_timestamp_seconds'), undefined, 'WAL alone restores nothing')
  // The metrics follow at most five times a second.
  await untilAnswer('nothing is missing', async () => (await metric('lifeboat_wal_missing_segments')) === 0)
  await untilAnswer('shipped', async () => (await metric('lifeboat_wal_shipped_segments_total')) ?? undefined)

  await t.test('with a base backup it is a moment, and now on an idle server', async (t) => {
    await ground.takeBackup(served)
    await finishSegment(cluster)
    const committed = Date.now() / 1000
    const point = await untilAnswer('a recovery point after that moment', async () => {
      const at = await metric('lifeboat_recovery_point_timestamp_seconds')
      return at !== undefined && at > committed && at
    })
    t.ok(point <= Date.now() / 1000, 'never ahead')
    t.equal(await metric('lifeboat_recovery_exposure_bytes'), 0)
    const start = (await metric('lifeboat_recovery_window_start_timestamp_seconds')) ?? 0
    t.ok(start > 0 && start < point)
    const asked = async (at: number) => {
      const query = `?at=${new Date(at * 1000).toISOString()}`
      return (await (await served.request(`/api/recoverability${query}`)).json()) as { repositories: object[] }
    }
    t.match((await asked(point)).repositories, [{ recoverable: true, windows: [{ hole: null }] }])
    t.match((await asked(start - 60)).repositories, [{ recoverable: false, refused: { code: 'not-recoverable' } }])
    await cluster.sql('insert into t select generate_series(1, 1000)')
    const exposed = await untilAnswer('what is not stored', async () => {
      const bytes = await metric('lifeboat_recovery_exposure_bytes')
      return bytes !== undefined && bytes > 0 && bytes
    })
    t.ok(exposed < 2 ** 21, `${exposed} bytes`)
  })

  await t.test('a restart of the sidecar forgets nothing', async (t) => {
    await finishSegment(cluster)
    const before = await untilAnswer('all of it stored', async () => {
      const [stored] = (await report()).repositories
      return stored?.exposureBytes === 0 && stored
    })
    await served.end('SIGKILL')
    await cluster.server.stop()
    const again = await serve(archive.base, ground.yaml())
    t.teardown(() => again.end())
    // With the server down nothing can be asked: what is told is what was known.
    const after = await untilAnswer('the recovery point', async () => {
      const { repositories } = await walReport(again)
      const [stored] = repositories
      const isKnown = stored !== undefined && stored.recoveryPoint !== null && stored.missingSegments !== null
      return isKnown ? stored : undefined
    })
    // While nothing is committed the note of that is written every ten seconds.
    const wentBack = Date.parse(before.recoveryPoint ?? '') - Date.parse(after.recoveryPoint ?? '')
    t.ok(wentBack <= 11_000, `it went back by ${wentBack} ms`)
    t.equal(after.missingSegments, 0)
  })
})

t.test('what was pruned is not taken for a lie, and what never came is', async (t) => {
  const { cluster, archive, report, served } = await run(t, 17)
  await cluster.sql('create table t as select generate_series(1, 20000) as i')
  const first = await finishSegment(cluster)
  const shipped = async (name: string) => {
    const seen = await report()
    return seen.archive?.newest?.name === name && seen.repositories[0]?.backlogSegments === 0
  }
  await untilAnswer('shipped', () => shipped(first))
  // As a pruner does: it is in the repository.
  await cluster.sql('insert into t select generate_series(1, 1000)')
  const second = await finishSegment(cluster)
  await untilAnswer('shipped', () => shipped(second))
  await rm(join(archive.directory, first))
  await untilAnswer('gone', async () => {
    const { archive: seen, repositories } = await report()
    return (seen?.segments ?? 0) + 1 === repositories[0]?.segments
  })
  await untilAnswer('idle', async () => {
    const { archiver } = await report()
    t.not(archiver?.state, 'lying')
    return archiver?.state === 'idle'
  })
  const errors = () => served.lines.filter(({ level }) => level === 50)
  t.same(errors(), [])
  // From now on the command stores nothing, and says that it had.
  await writeFile(join(archive.programs, archiveProgram), '#!/bin/sh\nexit 0\n')
  await cluster.sql('insert into t select generate_series(1, 1000)')
  await finishSegment(cluster)
  await untilAnswer('a lie', async () => (await report()).archiver?.state === 'lying')
  t.same(
    errors().filter(({ state }) => state !== 'lying'),
    [],
    'nothing has failed here',
  )
})

t.test('a file of another cluster is kept apart, and told', async (t) => {
  const { cluster, archive, root, metric, served } = await run(t, 15)
  await cluster.sql('create table t as select generate_series(1, 20000) as i')
  await finishSegment(cluster)
  await untilAnswer('shipped', async () => ((await metric('lifeboat_wal_segments')) ?? 0) > 0)
  const foreign = '0000000100000000000000F0'
  const bytes = segmentBytes(foreign)
  bytes.writeBigUInt64LE(7_000_000_000_000_000_001n, 24)
  await writeFile(join(archive.directory, foreign), bytes)
  await chmod(join(archive.directory, foreign), 0o644)
  await untilAnswer('quarantine', async () => (await metric('lifeboat_wal_quarantined_files')) === 1)
  const kept = await readdir(join(root, 'test', 'quarantine'), { recursive: true })
  t.ok(
    kept.some((name) => name.includes(foreign)),
    'nothing is lost',
  )
  t.ok((await stat(join(archive.directory, foreign))).size > 0, 'it stays where it was')
  t.ok(
    served.lines.some((line) => JSON.stringify(line).includes(foreign)),
    'the log tells',
  )
  const names = await readdir(join(root, 'test', 'wal'), { recursive: true })
  t.notOk(names.some((name) => name.includes(foreign)))
})
