import { join } from 'node:path'
import t, { type Test } from 'tap'
import { normalLsn } from '../../src/domain/recovery-point.ts'
import type { ConnectionSource } from '../../src/postgres/connection.ts'
import { createLsnClockProbe } from '../../src/postgres/lsn-clock.ts'
import { sqlOf } from '../alerts/runbook-pages.ts'
import { copyCluster, startCopy } from '../support/copy.ts'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { openDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

const never = new AbortController().signal

function probeOf(t: Test, source: ConnectionSource) {
  const probe = createLsnClockProbe({ ...source, maintenanceDatabase: 'postgres' })
  t.teardown(() => probe.close())
  return probe
}

/** The session of the probe: its process, which nobody else's is. */
async function sessionOf(cluster: Cluster): Promise<number | undefined> {
  const [row] = await cluster.sql<{ pid: number }>(
    `select pid from pg_stat_activity where application_name = 'lifeboat' and pid <> pg_backend_pid() and query ~ 'statement_timestamp'`,
  )
  return row?.pid
}

async function placeOf(cluster: Cluster): Promise<bigint> {
  const [row] = await cluster.sql<{ lsn: string }>(`select (pg_current_wal_insert_lsn() - '0/0')::text as lsn`)
  return BigInt(row?.lsn ?? 0)
}

for (const major of [15, 17] as const satisfies readonly Major[]) {
  t.test(`PostgreSQL ${major}`, { timeout: 120_000 }, async (t) => {
    const settings = { archive_mode: 'on', archive_command: 'true', autovacuum: 'off' }
    const initdbArgs = ['-E', 'UTF8', '--locale=C', '--wal-segsize=4']
    const cluster = await startCluster(t, { major, settings, initdbArgs, hba: ['local replication all trust'] })
    await cluster.sql('create table t (i int)')
    const probe = probeOf(t, cluster.source)
    const sample = (signal = never) => probe.sample(signal)

    await t.test('what a sample says', async (t) => {
      const [facts] = await cluster.sql<{ id: string; at: Date }>(
        'select system_identifier::text as id, clock_timestamp() as at from pg_control_system()',
      )
      const one = await sample()
      t.match(one, { systemIdentifier: facts?.id, timeline: 1, inRecovery: false, segmentSize: 4 * 1024 * 1024 })
      t.ok(one.at !== null && one.at >= (facts?.at.getTime() ?? 0) && one.at === one.serverAt)
      t.ok(one.lsn <= (await placeOf(cluster)))
      const pid = await sessionOf(cluster)
      const two = await sample()
      t.equal(two.state, one.state, 'nothing was committed')
      await cluster.sql('insert into t values (1)')
      const three = await sample()
      t.not(three.state, one.state)
      t.ok(three.lsn > one.lsn)
      t.equal(await sessionOf(cluster), pid, 'over one session')
    })

    await t.test('what is committed asynchronously counts at once', async (t) => {
      const before = await sample()
      await cluster.sql('set local synchronous_commit = off; insert into t values (1)')
      t.ok((await sample()).lsn > before.lsn)
    })

    await t.test('after a switch its place is the end of the segment', async (t) => {
      await cluster.sql('insert into t values (1)')
      await cluster.sql('select pg_switch_wal()')
      const { lsn, segmentSize } = await sample()
      t.equal(normalLsn(lsn, segmentSize) % BigInt(segmentSize), 0n)
    })

    await t.test('a session that ends is renewed', async (t) => {
      const pid = await sessionOf(cluster)
      await cluster.sql(`select pg_terminate_backend(${pid}, 10000)`)
      const { state } = await sample()
      t.not(await sessionOf(cluster), pid)
      t.equal((await sample()).state, state)
    })

    await t.test('a session that does not answer is given up', async (t) => {
      const pid = Number(await sessionOf(cluster))
      process.kill(pid, 'SIGSTOP')
      const late = new AbortController()
      const reason = new Error('too late')
      const looking = sample(late.signal)
      late.abort(reason)
      await t.rejects(looking, reason)
      t.match(await sample(), { timeline: 1 }, 'the next one has a new one')
      process.kill(pid, 'SIGCONT')
      await t.rejects(sample(AbortSignal.abort(reason)), reason)
    })

    await t.test('a crash begins anew, also where the server says that it never ended', async (t) => {
      const before = await sample()
      const start = () => cluster.sql<{ at: Date }>('select pg_postmaster_start_time() as at')
      const [started] = await start()
      process.kill(Number(await sessionOf(cluster)), 'SIGKILL')
      const after = await untilAnswer('the server is back', () => sample().catch(() => undefined))
      t.not(after.state, before.state)
      t.same(await start(), [started])
      const other = probeOf(t, cluster.source)
      t.equal((await other.sample(never)).state, (await sample()).state, 'a restart of the sidecar does not')
    })

    await t.test('a role without any privilege', async (t) => {
      await cluster.sql('create role plain login')
      const poor = probeOf(t, cluster.as('plain'))
      const one = await poor.sample(never)
      t.match(one, { timeline: 1 })
      t.equal((await poor.sample(never)).state, one.state)
    })

    await t.test('a standby, which is promoted', async (t) => {
      const directory = join(await openDirectory(t), 'standby')
      await copyCluster(cluster, directory)
      const standby = await startCopy(t, {
        ...{ installation: cluster.installation, directory, superuser: 'postgres', signalFile: 'standby.signal' },
        settings: {
          primary_conninfo: `host=${cluster.source.host} port=${cluster.source.port} user=postgres`,
          ...{ archive_mode: 'off', hot_standby: 'on' },
        },
      })
      const probe = probeOf(t, standby.source)
      const first = await probe.sample(never)
      t.match(first, { timeline: 1, state: null, inRecovery: true })
      await cluster.sql('insert into t values (1)')
      const [committed] = await cluster.sql<{ at: Date; lsn: string }>(
        `select clock_timestamp() as at, (pg_current_wal_insert_lsn() - '0/0')::text as lsn`,
      )
      const replayed = await untilAnswer('it is replayed', async () => {
        const found = await probe.sample(never)
        return found.lsn >= BigInt(committed?.lsn ?? 0) && found.at !== null ? found : undefined
      })
      t.ok((replayed.at ?? 0) <= (committed?.at.getTime() ?? 0), 'the moment of the commit, never now')
      t.equal((await probe.sample(never)).at, replayed.at, 'and it stays while nothing is committed')
      await standby.sql('select pg_promote()')
      const after = await probe.sample(never)
      t.match(after, { timeline: 2, inRecovery: false, state: /./ }, 'at once, over the same session')
      t.ok(after.lsn >= replayed.lsn)
      await standby.stop()
      await t.rejects(probe.sample(never), { code: 'server-unreachable' })
    })

    await t.test('the SQL of the runbooks', async (t) => {
      const statements = new Set(await sqlOf())
      t.ok(statements.size > 20)
      for (const statement of statements) {
        const said = await cluster.sql(statement).then(
          () => '',
          ({ message }: Error) => message,
        )
        t.equal(said, statement.includes("('SLOT')") ? 'replication slot "SLOT" does not exist' : '', statement)
      }
    })
  })
}
