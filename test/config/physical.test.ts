import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { minimal, refusal } from './support.ts'

const archive = 'wal: { archive: /var/lib/postgresql/wal_archive }\n'

t.test('schedules of physical backups, and the ages that follow from them', async (t) => {
  const text = `${minimal}${archive}schedule: { full: "0 3 * * *", incremental: "0 */6 * * *" }`
  const { schedule, policy, physical } = await loadConfig({ text: `${text}\nphysical: { maxRate: 50MiB }`, env: {} })
  t.match(schedule, { full: '0 3 * * *', incremental: '0 */6 * * *' })
  t.equal(policy.fullMaxAgeSeconds, 30 * 3600)
  // One that becomes a full one leaves a gap of two turns.
  t.equal(policy.incrementalMaxAgeSeconds, 15 * 3600)
  t.equal(physical.maxRateKib, 50 * 1024)
})

t.test('without an archive of the WAL nothing is restored', async (t) => {
  const { problems } = await refusal({ text: `${minimal}schedule: { full: "0 3 * * *", incremental: off }`, env: {} })
  t.match(problems, [{ key: 'schedule.full', message: /wal\.archive is not set/, hint: /lifeboat wal setup/ }])
  t.equal(problems.length, 1)
  await loadConfig({ text: minimal, env: { LIFEBOAT_WAL_ARCHIVE: '/wal', LIFEBOAT_SCHEDULE_FULL: '0 3 * * *' } })
})

t.test('rates that pg_basebackup does not take', async (t) => {
  for (const rate of ['1KiB', '2GiB']) {
    const { problems } = await refusal({ text: `${minimal}physical: { maxRate: ${rate} }`, env: {} })
    t.match(problems, [{ key: 'physical.maxRate' }], rate)
  }
})

t.test('a standby', async (t) => {
  const { physical } = await loadConfig({ text: `${minimal}physical: { standby: { host: other.example } }`, env: {} })
  t.same(physical.standby, { host: 'other.example', port: 5432, maxLagMs: 300_000, required: false })
  t.equal((await loadConfig({ text: minimal, env: {} })).physical.standby, null)
  const env = { LIFEBOAT_PHYSICAL_STANDBY_HOST: 'other', LIFEBOAT_POSTGRES_PORT: '5433' }
  t.match((await loadConfig({ text: minimal, env })).physical.standby, { host: 'other', port: 5433 })
  const same = { LIFEBOAT_PHYSICAL_STANDBY_HOST: 'pg', LIFEBOAT_POSTGRES_HOST: 'pg' }
  const { problems } = await refusal({ text: minimal, env: same })
  t.match(problems, [{ key: 'physical.standby.host', message: /that is one server/ }])
  await loadConfig({ text: minimal, env: { ...same, LIFEBOAT_PHYSICAL_STANDBY_PORT: '5433' } })
})
