import t, { type Test } from 'tap'
import type { Finding } from '../../src/check/finding.ts'
import { checkPhysical } from '../../src/check/physical.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type ConnectionSource, connect } from '../../src/postgres/connection.ts'
import { type Cluster, type ClusterOptions, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { startStandby } from '../support/standby.ts'

const trust = ['local replication all trust']

t.test('what physical backups need', { timeout: 60_000 }, async (t) => {
  t.same(await checked(t, {}, {}), [], 'nothing that is not scheduled')
  t.match(await checked(t, { hba: trust }, { full: '0 3 * * *' }), [
    { status: 'ok', what: /^Zstandard CLI/ },
    { what: 'physical backups can be taken' },
  ])
  const old = await checked(
    t,
    { settings: { wal_level: 'minimal', max_wal_senders: '0' } },
    { incremental: '0 */6 * * *' },
    'plain',
  )
  t.match(old.slice(1), [
    { status: 'error', what: 'the role may not take physical backups', hint: /^ALTER ROLE "plain" REPLICATION/ },
    { status: 'error', what: /^wal_level is minimal/ },
    { status: 'error', what: /^max_wal_senders is 0/ },
    { status: 'warning', what: /may not see where the configuration is/ },
    { status: 'error', what: /PostgreSQL 15 has no incremental backups/, hint: /archive_timeout/ },
  ])
  const off = await checked(t, { major: 17, hba: trust }, { incremental: '0 */6 * * *' })
  t.match(off.slice(1), [{ status: 'warning', what: /^summarize_wal is off/, hint: /ALTER SYSTEM/ }])
})

t.test('what keeps a backup from being sent', { timeout: 60_000 }, async (t) => {
  const settings = { max_wal_senders: '1', summarize_wal: 'on', wal_summary_keep_time: '1h' }
  const hba = ['local replication refused reject', ...trust]
  const cluster = await startCluster(t, { major: 17, settings, hba })
  await cluster.sql('create role refused login replication in role pg_monitor')
  const schedule = { incremental: '0 */6 * * *' }
  t.match((await look(t, cluster, { schedule, source: cluster.as('refused') })).slice(1), [
    { status: 'error', what: /pg_hba\.conf rejects/, hint: /line .* in pg_hba\.conf/ },
  ])
  t.match((await look(t, cluster, { schedule })).slice(1), [
    { status: 'warning', what: /wal_summary_keep_time is 60 min/, hint: /ALTER SYSTEM/ },
  ])
  const taken = await connect(cluster.source, { database: 'replication', replication: true })
  t.match((await look(t, cluster, { schedule })).slice(1), [{ status: 'error', hint: /max_wal_senders/ }])
  await taken.close()
})

t.test('a standby', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t, { hba: trust, settings: { full_page_writes: 'on' } })
  await cluster.sql(`create role least login replication in role pg_monitor`)
  const standby = await startStandby(t, cluster)
  const schedule = { full: '0 3 * * *' }
  const at = (source: ConnectionSource, physical: object) =>
    look(t, cluster, { schedule, source, physical: { standby: physical } })
  const { host } = standby.source
  t.match((await at(cluster.source, { host })).slice(1), [
    { status: 'ok', what: /^the standby .* can be backed up: it has/ },
    { status: 'ok', what: 'physical backups can be taken' },
  ])
  t.match((await at(cluster.as('least'), { host })).slice(1), [
    { status: 'ok', what: /^the standby/ },
    {
      status: 'error',
      what: /may not finish a segment .* archive_timeout, which is off/,
      hint: /^GRANT EXECUTE .* "least"/,
    },
    { status: 'warning', what: /may not order a checkpoint/, hint: 'GRANT pg_checkpoint TO "least"' },
  ])
  t.match((await at(standby.source, { host: cluster.source.host })).slice(1), [
    { status: 'error', what: 'postgres.host is a standby', hint: /physical\.standby/ },
  ])
  await standby.sql('select pg_promote()')
  t.match((await at(cluster.source, { host })).slice(1), [
    { status: 'warning', what: /it is no standby.*: physical backups are read from the primary$/ },
  ])
  t.match((await at(cluster.source, { host, required: true })).slice(1), [
    { status: 'error', what: /it is no standby/ },
  ])
})

async function checked(
  t: Test,
  options: ClusterOptions,
  schedule: Readonly<Record<string, string>>,
  user?: string,
): Promise<readonly Finding[]> {
  const cluster = await startCluster(t, options)
  if (user !== undefined) await cluster.sql(`create role ${user} login`)
  return look(t, cluster, { schedule, source: user === undefined ? cluster.source : cluster.as(user) })
}

interface Looked {
  readonly schedule: Readonly<Record<string, string>>
  readonly source?: ConnectionSource
  readonly physical?: object
}

async function look(
  t: Test,
  cluster: Cluster,
  { schedule, source = cluster.source, physical = {} }: Looked,
): Promise<readonly Finding[]> {
  const directory = await scratchDirectory(t)
  const yaml = { wal: { archive: `${directory}/archive` }, schedule, physical }
  const config = await loadConfig({ text: sidecarYaml(cluster, directory, { source, yaml }), env: {} })
  return checkPhysical(config, new AbortController().signal)
}
