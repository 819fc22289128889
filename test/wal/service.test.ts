import { chmod, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { makeRepositories } from '../../src/core.ts'
import type { WalReport } from '../../src/observe/wal-report.ts'
import { archiveCommand, archiveProgram } from '../../src/postgres/archiving.ts'
import { storeBaseBackup } from '../support/base-backup.ts'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { type Served, serve, serveTokens } from '../support/serve.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { untilAnswer } from '../support/until.ts'
import { type Archive, makeArchive, segmentBytes } from '../support/wal.ts'

interface Running {
  readonly cluster: Cluster
  readonly archive: Archive
  readonly repository: string
  readonly served: Served
  readonly report: () => Promise<WalReport>
  readonly metric: (name: string) => Promise<number | undefined>
}

/** The real sidecar beside a real server with segments of 1 MiB that archives. */
async function run(t: Test, major: Major, wal: object = {}): Promise<Running> {
  const archive = await makeArchive(t)
  const cluster = await startCluster(t, {
    major,
    hba: ['local replication all trust'],
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: { archive_mode: 'on', archive_command: archiveCommand(archive.programs, archive.directory) },
  })
  const repository = join(archive.base, 'repository')
  const yaml = sidecarYaml(cluster, archive.base, {
    repositories: { local: repository },
    yaml: {
      auth: { tokens: serveTokens },
      observe: { interval: '1s' },
      wal: { archive: archive.directory, clockInterval: '1s', ...wal },
      log: { level: 'info' },
    },
  })
  const served = await serve(archive.base, yaml)
  t.teardown(() => served.end())
  const report = async () => (await (await served.request('/api/wal')).json()) as WalReport
  const metric = async (name: string) => {
    const text = await (await served.request('/metrics')).text()
    const line = text.split('\n').find((one) => one.startsWith(name))
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1))
  }
  return { cluster, archive, repository, served, report, metric }
}

/** Finishes the segment that the server writes, and gives its name. */
async function finishSegment(cluster: Cluster): Promise<string> {
  await cluster.sql('select pg_create_restore_point($$here$$)')
  const [row] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  return row?.name ?? ''
}

t.test('WAL goes from the server to the repository, and the recovery point follows', async (t) => {
  const { cluster, archive, repository, served, report, metric } = await run(t, 15)
  await cluster.sql('create table t as select generate_series(1, 20000) as i')
  const name = await finishSegment(cluster)
  const stored = async () => {
    const files = await readdir(join(repository, 'test', 'wal'), { recursive: true }).catch(() => [] as string[])
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
  t.equal(found.archiver?.state, 'idle')
  t.equal(await metric('lifeboat_recovery_point_timestamp_seconds'), undefined, 'WAL alone restores nothing')
  t.equal(await metric('lifeboat_wal_missing_segments'), 0)
  t.ok(await metric('lifeboat_wal_shipped_segments_total'))

  await t.test('with a base backup it is a moment, and now on an idle server', async (t) => {
    const config = await loadConfig({ path: join(archive.base, 'lifeboat.yaml'), env: {} })
    const [made] = makeRepositories(config, { clock: systemClock, version: '0.0.0-test', ledger: null })
    if (made === undefined) return t.fail('no repository')
    await storeBaseBackup(cluster, made.repository, join(archive.base, 'backup'))
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
    const again = await serve(archive.base, await readFile(join(archive.base, 'lifeboat.yaml'), 'utf8'))
    t.teardown(() => again.end())
    // With the server down nothing can be asked: what is told is what was known.
    const after = await untilAnswer('the recovery point', async () => {
      const { repositories } = (await (await again.request('/api/wal')).json()) as WalReport
      const [stored] = repositories
      const isKnown = stored !== undefined && stored.recoveryPoint !== null && stored.missingSegments !== null
      return isKnown ? stored : undefined
    })
    t.ok(Date.parse(after.recoveryPoint ?? '') >= Date.parse(before.recoveryPoint ?? ''), 'it did not go back')
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
  t.equal((await report()).archiver?.state, 'idle')
  // From now on the command stores nothing, and says that it had.
  await writeFile(join(archive.programs, archiveProgram), '#!/bin/sh\nexit 0\n')
  await cluster.sql('insert into t select generate_series(1, 1000)')
  await finishSegment(cluster)
  await untilAnswer('a lie', async () => (await report()).archiver?.state === 'lying')
  t.notOk(
    served.lines.find(({ level }) => level === 50),
    'nothing has failed here',
  )
})

t.test('a file of another cluster is kept apart, and told', async (t) => {
  const { cluster, archive, repository, metric, served } = await run(t, 15)
  await cluster.sql('create table t as select generate_series(1, 20000) as i')
  await finishSegment(cluster)
  await untilAnswer('shipped', async () => ((await metric('lifeboat_wal_segments')) ?? 0) > 0)
  const foreign = '0000000100000000000000F0'
  const bytes = segmentBytes(foreign)
  bytes.writeBigUInt64LE(7_000_000_000_000_000_001n, 24)
  await writeFile(join(archive.directory, foreign), bytes)
  await chmod(join(archive.directory, foreign), 0o644)
  await untilAnswer('quarantine', async () => (await metric('lifeboat_wal_quarantined_files')) === 1)
  const kept = await readdir(join(repository, 'test', 'quarantine'), { recursive: true })
  t.ok(
    kept.some((name) => name.includes(foreign)),
    'nothing is lost',
  )
  t.ok((await stat(join(archive.directory, foreign))).size > 0, 'it stays where it was')
  t.ok(
    served.lines.some((line) => JSON.stringify(line).includes(foreign)),
    'the log tells',
  )
  const names = await readdir(join(repository, 'test', 'wal'), { recursive: true })
  t.notOk(names.some((name) => name.includes(foreign)))
})
