import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { checkArchiving } from '../../src/check/archiving.ts'
import type { Finding } from '../../src/check/finding.ts'
import { type Clock, systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { startCluster } from '../support/postgres.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { makeArchive } from '../support/wal.ts'

t.test('a command that never returns', { timeout: 100_000 }, async (t) => {
  const found = await checked(t, 'sleep 1000', `select from pg_stat_activity where wait_event = 'ArchiveCommand'`)
  t.match(found, { what: /did not arrive within 60 s: archive_command does not return; 1 files wait/ })
})

t.test('a command that ends the archiver', { timeout: 100_000 }, async (t) => {
  const gone = `select where not exists (select from pg_stat_activity where backend_type = 'archiver')`
  const found = await checked(t, 'exit 200', gone)
  t.match(found, { what: /ends the server's archiver: .* above 125/ })
})

/** The last finding about a server with such a command, when the minute is over as soon as a query gives a row. */
async function checked(t: Test, command: string, over: string): Promise<Finding | undefined> {
  const archive = await makeArchive(t)
  const cluster = await startCluster(t, { settings: { archive_mode: 'on', archive_command: command } })
  const signal = new AbortController().signal
  const configured = (yaml: Readonly<Record<string, unknown>>) =>
    loadConfig({ text: sidecarYaml(cluster, archive.base, { yaml }), env: {} })
  let isOver = false
  const clock: Clock = {
    ...systemClock,
    monotonic: () => (isOver ? 60_000 : 0),
    sleep: async () => {
      isOver = (await cluster.sql(over)).length > 0
      if (!isOver) await delay(10)
    },
  }
  t.same(await checkArchiving(await configured({}), { clock, signal }), [], 'nothing is tried without wal.archive')
  const config = await configured({ wal: { archive: archive.directory } })
  return (await checkArchiving(config, { clock, signal })).at(-1)
}
