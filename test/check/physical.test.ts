import t, { type Test } from 'tap'
import type { Finding } from '../../src/check/finding.ts'
import { checkPhysical } from '../../src/check/physical.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type ClusterOptions, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { sidecarYaml } from '../support/sidecar.ts'

t.test('what physical backups need', { timeout: 60_000 }, async (t) => {
  t.same(await checked(t, {}, {}), [], 'nothing that is not scheduled')
  t.match(await checked(t, {}, { full: '0 3 * * *' }), [
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
  const off = await checked(t, { major: 17 }, { incremental: '0 */6 * * *' })
  t.match(off.slice(1), [{ status: 'warning', what: /^summarize_wal is off/, hint: /ALTER SYSTEM/ }])
})

async function checked(
  t: Test,
  options: ClusterOptions,
  schedule: Readonly<Record<string, string>>,
  user?: string,
): Promise<readonly Finding[]> {
  const cluster = await startCluster(t, options)
  const directory = await scratchDirectory(t)
  if (user !== undefined) await cluster.sql(`create role ${user} login`)
  const source = user === undefined ? cluster.source : cluster.as(user)
  const text = sidecarYaml(cluster, directory, { source, yaml: { wal: { archive: `${directory}/archive` }, schedule } })
  const config = await loadConfig({ text, env: {} })
  return checkPhysical(config, new AbortController().signal)
}
