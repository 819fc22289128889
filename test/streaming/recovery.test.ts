import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ConnectionSource } from '../../src/postgres/connection.ts'
import { socketSource, withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { openDirectory } from '../support/scratch.ts'
import { replicationHba, segmentsIn, streamingFrom } from '../support/streaming.ts'
import { untilAnswer } from '../support/until.ts'
import { makeArchive } from '../support/wal.ts'

const small = ['-E', 'UTF8', '--locale=C', '--wal-segsize=1']
const segmentSize = 2 ** 20

for (const major of [15, 17, 18] as const) {
  t.test(`what was handed on is replayed, PostgreSQL ${major}`, { timeout: 120_000 }, (t) => isReplayed(t, major))
  t.test(`a standby is promoted, PostgreSQL ${major}`, { timeout: 120_000 }, (t) => isPromoted(t, major))
}

/** Into a directory as a repository would have it: whole segments, and the newest partial by its end. */
async function isReplayed(t: Test, major: Major): Promise<void> {
  const cluster = await startCluster(t, {
    major,
    initdbArgs: small,
    hba: replicationHba,
    settings: { synchronous_commit: 'on' },
  })
  await cluster.sql('create table t (i int, filler text)')
  const repository = await openDirectory(t)
  const streaming = await streamingFrom(t, cluster, {
    shipPartial: async ({ segment, endLsn, bytes }) =>
      writeFile(join(repository, `${segment}.partial.${endLsn.toString(16).toUpperCase().padStart(16, '0')}`), bytes),
  })
  streaming.streamer.start()
  await streaming.untilStreaming()
  const copy = await baseBackup(t, cluster)
  await cluster.sql(`insert into t select i, repeat('x', 900) from generate_series(1, 3500) i`)
  const end = await streaming.untilAll(cluster)
  await streaming.until('the last row is handed on', ({ shippedTo }) => shippedTo !== null && shippedTo >= end)
  await cluster.server.stop('immediate')
  await streaming.streamer.stop()

  for (const name of await segmentsIn(streaming.archive))
    await writeFile(join(repository, name), await readFile(join(streaming.archive, name)))
  const newest =
    (await readdir(repository))
      .filter((name) => name.includes('.partial.'))
      .toSorted()
      .at(-1) ?? ''
  const padded = Buffer.concat([await readFile(join(repository, newest)), Buffer.alloc(segmentSize)])
  await writeFile(join(repository, newest.slice(0, 24)), padded.subarray(0, segmentSize))
  await writeFile(join(copy.data, 'recovery.signal'), '')
  const source = await startServer(t, cluster, copy, { restore_command: `cp '${repository}/%f' '%p'` })
  const rows = await untilAnswer('recovered', async () => {
    const [row] = await ask<{ recovery: boolean; count: number }>(
      source,
      'select pg_is_in_recovery() as recovery, count(*)::int as count from t',
    ).catch(() => [])
    return row?.recovery === false && row.count
  })
  t.equal(rows, 3500, 'every committed row')
}

async function isPromoted(t: Test, major: Major): Promise<void> {
  const archive = await makeArchive(t)
  const both = join(archive.base, 'both')
  await mkdir(join(both, '.incoming'), { recursive: true })
  // As the guide has it: a group that both are in.
  if (archive.user !== null) await runProgram({ program: 'chown', args: ['-R', `:${archive.user.gid}`, both] })
  await runProgram({ program: 'chmod', args: ['-R', '2770', both] })
  const cluster = await startCluster(t, {
    major,
    initdbArgs: small,
    hba: replicationHba,
    settings: {
      archive_mode: 'on',
      archive_command: `'${archive.programs}/lifeboat-archive' "%p" "%f" '${both}'`,
    },
  })
  await cluster.sql('create table t (i int, filler text)')
  const streaming = await streamingFrom(t, cluster, { archive: both })
  streaming.streamer.start()
  await streaming.untilStreaming()
  const fill = (rows: number) => `insert into t select i, repeat('x', 900) from generate_series(1, ${rows}) i`

  t.comment('archive_command and streaming into one directory')
  await cluster.sql(fill(3000))
  await cluster.sql('select pg_switch_wal()')
  await streaming.untilAll(cluster)
  const standby = await baseBackup(t, cluster)
  await writeFile(join(standby.data, 'standby.signal'), '')
  const source = await startServer(t, cluster, standby, {
    primary_conninfo: `host=${cluster.source.host} port=5432 user=postgres`,
    archive_mode: 'on',
    archive_command: `'${archive.programs}/lifeboat-archive' "%p" "%f" '${both}'`,
  })
  await cluster.sql(fill(500))
  const [row] = await cluster.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  await untilAnswer('the standby has it', async () => {
    const [at] = await ask<{ is: boolean }>(source, `select pg_last_wal_replay_lsn() >= '${row?.lsn}' as is`).catch(
      () => [],
    )
    return at?.is === true
  })

  t.comment('the primary goes on alone for more than a segment, and is lost')
  await ask(source, `alter system set primary_conninfo = ''`)
  await ask(source, 'select pg_reload_conf()')
  await untilAnswer(
    'it does not receive',
    async () => (await ask(source, 'select from pg_stat_wal_receiver')).length === 0,
  )
  await cluster.sql(fill(2500))
  await streaming.untilAll(cluster)
  await untilAnswer('nothing waits', async () => {
    const [one] = await cluster.sql<{ failed: string }>('select failed_count::text as failed from pg_stat_archiver')
    if (one?.failed !== '0') throw new Error('archive_command found other bytes')
    return (await cluster.sql(`select from pg_ls_archive_statusdir() where name ~ '\\.ready$'`)).length === 0
  })
  await cluster.server.stop('immediate')
  await streaming.streamer.stop()
  const before = await segmentsIn(both)

  await ask(source, 'select pg_promote()')
  const onStandby = await streamingFrom(t, { ...cluster, source }, { archive: both })
  onStandby.streamer.start()
  await onStandby.untilStreaming()
  await ask(source, fill(3000))
  const promoted = { sql: <Row extends object>(text: string) => ask<Row>(source, text) }
  const end = await onStandby.untilAll({ ...cluster, ...promoted })
  t.equal(onStandby.streamer.state().holes, 0, 'from the fork on, without a hole')
  const after = (await segmentsIn(both)).filter((name) => name.startsWith('00000002'))
  t.ok(after.length >= 2)
  t.ok((await readdir(both)).includes('00000002.history'))
  t.same(
    (await segmentsIn(both)).filter((name) => name.startsWith('00000001')).slice(0, before.length),
    before,
    'nothing is lost',
  )
  const forked = parseFork(await readFile(join(both, '00000002.history'), 'utf8'))
  t.equal(
    Number.parseInt(after[0]?.slice(16) ?? '', 16),
    Math.floor(forked / segmentSize),
    'from the segment of the fork on',
  )
  for (const name of after) {
    const theirs = await readFile(join(standby.data, 'pg_wal', name)).catch(() => null)
    if (theirs !== null) t.ok(theirs.equals(await readFile(join(both, name))), name)
  }
  await untilAnswer('a partial of the new timeline', async () => (onStandby.partials.at(-1)?.endLsn ?? 0n) >= end)
  t.ok(onStandby.partials.at(-1)?.segment.startsWith('00000002'))
  const [archiver] = await ask<{ failed: string }>(source, 'select failed_count::text as failed from pg_stat_archiver')
  t.equal(archiver?.failed, '0', 'the partial that the server archives finds its name free')
}

const parseFork = (history: string) => Number.parseInt(/^1\t[0-9A-F]+\/([0-9A-F]+)/.exec(history)?.[1] ?? '', 16)

interface Copy {
  readonly base: string
  readonly data: string
}

async function baseBackup(t: Test, { installation, source }: Cluster): Promise<Copy> {
  const base = await openDirectory(t)
  const data = join(base, 'data')
  const user = await serverOsUser('postgres')
  await runProgram({
    program: programPath(installation, 'pg_basebackup'),
    args: ['-D', data, '-X', 'stream', '-c', 'fast', '-h', source.host, '-p', String(source.port), '-U', source.user],
    user,
  })
  return { base, data }
}

async function startServer(
  t: Test,
  { installation }: Cluster,
  { base, data }: Copy,
  settings: Readonly<Record<string, string>>,
): Promise<ConnectionSource> {
  const user = await serverOsUser('postgres')
  const lines = Object.entries({
    listen_addresses: '',
    unix_socket_directories: base,
    fsync: 'off',
    wal_level: 'replica',
    max_wal_senders: '10',
    archive_mode: 'off',
    ...settings,
  }).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
  await writeFile(join(data, 'postgresql.conf'), lines.join(''))
  await rm(join(data, 'postgresql.auto.conf'), { force: true })
  await writeFile(join(data, 'postgresql.auto.conf'), '')
  await runProgram({ program: 'chown', args: ['-R', user === null ? '0' : String(user.uid), data] }).catch(() => {})
  const running = await startProgram({
    program: programPath(installation, 'postgres'),
    args: ['-D', data],
    user,
    cwd: base,
  })
  running.stdout.resume()
  t.teardown(async () => {
    running.kill('SIGQUIT')
    await running.exited
  })
  const source = socketSource({ host: base, port: 5432, user: 'postgres' })
  await untilAnswer('it answers', async () => (await ask(source, 'select 1 as one').catch(() => [])).length > 0)
  return source
}

function ask<Row extends object>(source: ConnectionSource, sql: string): Promise<Row[]> {
  return withSession(source, { database: 'postgres' }, (session) => session.query<Row>(sql))
}
