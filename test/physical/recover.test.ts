import { readdir, readFile, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseLsn } from '../../src/domain/lsn.ts'
import { type RecoveryStop, targetTime } from '../../src/domain/recovery-plan.ts'
import { segmentBefore } from '../../src/domain/wal.ts'
import { type RecoverOptions, recover } from '../../src/physical/recover.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

const segmentSize = 1024 * 1024

for (const major of [15, 17] as const)
  t.test(`recoveries on PostgreSQL ${major}`, { timeout: 200_000 }, async (t) => {
    const ground = await prepare(t, major)
    const { moments } = ground
    const end = { timeline: 1, lsn: moments.end }
    const asked: readonly {
      name: string
      stop: RecoveryStop
      mustReach?: bigint
      action?: 'promote' | 'pause' | 'shutdown'
      rows: number
    }[] = [
      { name: 'to the end', stop: { kind: 'end' }, rows: 3 },
      { name: 'as soon as it is consistent', stop: { kind: 'immediate' }, mustReach: ground.consistent, rows: 1 },
      { name: 'to a place', stop: { kind: 'lsn', lsn: moments.afterTwo }, mustReach: moments.afterTwo, rows: 2 },
      {
        name: 'to a place, paused',
        stop: { kind: 'lsn', lsn: moments.afterTwo },
        action: 'pause',
        mustReach: moments.afterTwo,
        rows: 2,
      },
      { name: 'to a moment', stop: { kind: 'time', ...moments.timeTwo, mayEnd: false }, rows: 2 },
      { name: 'to a restore point', stop: { kind: 'name', name: 'before' }, rows: 2 },
      { name: 'to a moment after the last commit', stop: { kind: 'time', ...moments.late, mayEnd: true }, rows: 3 },
      {
        name: 'to the very end, by its place',
        stop: { kind: 'lsn', lsn: moments.end },
        mustReach: moments.end,
        rows: 3,
      },
    ]
    for (const { name, stop, rows, action = 'promote', mustReach = moments.end } of asked)
      t.test(name, async (t) => {
        const options = await ground.options(t, { stop, action, mustReach: { ...end, lsn: mustReach } })
        const told: bigint[] = []
        const found = await recover({ ...options, onProgress: ({ lsn }) => told.push(lsn) })
        t.teardown(() => found.server.stop('immediate'))
        const counted = await withSession(found.server.source, { database: 'app' }, (session) =>
          session.query(
            "select count(*)::int as rows, pg_is_in_recovery() as paused, current_setting('archive_mode') as archives from t",
          ),
        )
        t.same(counted, [{ rows, paused: action === 'pause', archives: 'off' }])
        t.match(found, { timeline: 1, newTimeline: action === 'pause' ? null : 2 })
        t.ok(found.phases.start !== undefined && found.phases.replay !== undefined)
        t.ok(told.length > 0, 'it is followed')
        await found.server.stop()
        t.notOk(
          (await readdir(ground.archive)).some((file) => file.startsWith('00000002')),
          'nothing was archived',
        )
      })

    t.test('a stop at the target that promotes nothing', async (t) => {
      const options = await ground.options(t, { stop: { kind: 'name', name: 'before' }, action: 'shutdown' })
      const found = await recover(options)
      t.equal(found.newTimeline, null)
      t.notOk((await readdir(options.dataDirectory)).includes('postmaster.pid'), 'it is stopped')
    })

    t.test('what the WAL does not lead to', async (t) => {
      for (const [stop, message] of [
        [{ kind: 'time', ...moments.late, mayEnd: false }, /ended early/],
        [{ kind: 'lsn', lsn: moments.end + 1000n }, /ended early/],
        [{ kind: 'name', name: 'nowhere' }, /ended early.*"nowhere"/],
      ] as const) {
        const options = await ground.options(t, { stop, mustReach: { ...end, lsn: moments.end + 1000n } })
        await t.rejects(recover(options), { code: 'not-recoverable', message }, stop.kind)
        t.notOk((await readdir(options.dataDirectory)).includes('postmaster.pid'), 'it is stopped')
      }
    })

    t.test('WAL that ends before its time', async (t) => {
      const less = await openDirectory(t)
      await runProgram({ program: 'cp', args: ['-a', `${ground.archive}/.`, less] })
      await unlink(join(less, ground.last))
      for (const stop of [{ kind: 'end' }, { kind: 'time', ...moments.late, mayEnd: true }] as const) {
        const options = await ground.options(t, { stop, restoreCommand: `cp ${less}/%f %p` })
        await t.rejects(recover(options), { code: 'not-recoverable', message: /ended early/ }, stop.kind)
        t.notOk((await readdir(options.dataDirectory)).includes('postmaster.pid'), 'it is stopped')
      }
      const failing = await ground.options(t, {
        stop: { kind: 'end' },
        restoreCommand: `cp ${less}/%f %p || { echo "lifeboat-restore-wal: %f is a hole" >&2; exit 126; }`,
      })
      await t.rejects(recover(failing), { code: 'not-recoverable', message: /is a hole; .*could not restore file/ })
    })

    t.test('an abort ends it', async (t) => {
      const over = new AbortController()
      const options = await ground.options(t, { stop: { kind: 'end' }, restoreCommand: 'sleep 600' })
      const running = recover({ ...options, signal: over.signal })
      await untilAnswer('it', async () => (await readdir(options.dataDirectory)).includes('postmaster.pid'))
      over.abort(new Error('enough'))
      await t.rejects(running, /enough/)
      t.notOk((await readdir(options.dataDirectory)).includes('postmaster.pid'))
    })
  })

/** A base backup, and an archive with three moments in it. */
async function prepare(t: Test, major: 15 | 17) {
  const { cluster, archive } = await physicalCluster(t, {
    major,
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
  })
  const folder = await openDirectory(t)
  const user = await serverOsUser('postgres')
  await cluster.createDatabase('app', 'create table t as select 1 as i')
  const base = join(folder, 'base')
  await runProgram({
    program: programPath(cluster.installation, 'pg_basebackup'),
    args: ['-h', cluster.source.host, '-U', 'postgres', '-D', base, '-X', 'none', '-c', 'fast', '--no-sync'],
    user,
  })
  const one = async <T>(sql: string) => ((await cluster.sql<{ value: T }>(sql, 'app'))[0] as { value: T }).value
  const place = async (sql: string) => parseLsn(await one<string>(`select ${sql}::text as value`)) ?? 0n
  const [, stop = ''] = /"End-LSN": "([^"]+)"/.exec(await readFile(join(base, 'backup_manifest'), 'utf8')) ?? []
  const consistent = parseLsn(stop) ?? 0n
  await cluster.sql('insert into t values (2)', 'app')
  await cluster.sql("select pg_create_restore_point('before')")
  const afterTwo = await place('pg_current_wal_insert_lsn()')
  const timeTwo = await one<Date>('select clock_timestamp() as value')
  await cluster.sql('insert into t values (3)', 'app')
  await cluster.sql("create table filler as select repeat('x', 500) from generate_series(1, 5000)", 'app')
  await cluster.sql('select pg_switch_wal()')
  const end = await place('pg_current_wal_lsn()')
  const last = await one<string>(
    `select pg_walfile_name('${(end >> 32n).toString(16)}/${((end & 0xffffffffn) - 1n).toString(16)}') as value`,
  )
  await untilAnswer('it', async () => (await readdir(archive)).includes(last))
  await cluster.server.stop()
  const whole = BigInt(segmentBefore(end, segmentSize) + 1) * BigInt(segmentSize)
  const moment = (at: Date) => ({ at, text: targetTime({ at }) })
  const moments = {
    ...{ afterTwo, end: whole },
    timeTwo: moment(new Date(timeTwo.getTime() + 1)),
    late: moment(new Date(Date.now() + 5000)),
  }
  return {
    archive,
    last,
    consistent,
    moments,
    options: async (
      t: Test,
      options: Partial<RecoverOptions> & Pick<RecoverOptions, 'stop'>,
    ): Promise<RecoverOptions> => {
      const directory = await scratchDirectory(t)
      const dataDirectory = join(directory, 'data')
      await runProgram({ program: 'cp', args: ['-a', base, dataDirectory] })
      await rm(join(dataDirectory, 'postgresql.auto.conf'))
      return {
        dataDirectory,
        installation: cluster.installation,
        restoreCommand: `cp ${archive}/%f %p`,
        timeline: 1,
        mustReach: { timeline: 1, lsn: moments.end },
        action: 'promote',
        socketDirectory: join(directory, 's'),
        osUser: user,
        workFolder: directory,
        signal: new AbortController().signal,
        onProgress: () => {},
        user: 'of later days',
        settings: { fsync: 'off' },
        ...options,
      }
    },
  }
}
