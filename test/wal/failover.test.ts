import { rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { archiveCommand } from '../../src/postgres/archiving.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { AskedSidecar } from '../support/asked-sidecar.ts'
import { type CopyServer, copyCluster, startCopy } from '../support/copy.ts'
import type { Cluster } from '../support/postgres.ts'
import { untilAnswer } from '../support/until.ts'
import { finishSegment, type WalGround, walGround } from '../support/wal-ground.ts'
import { copyRepository } from './truth-restore.ts'

/** Notes a commit, and gives the moment after which it was confirmed. */
async function note(server: Pick<Cluster, 'sql'>, ...ids: readonly number[]): Promise<number> {
  await server.sql(`insert into noted select unnest('{${ids.join()}}'::int[])`)
  return Date.now()
}

async function sees(server: Pick<Cluster, 'sql'>, id: number): Promise<void> {
  await untilAnswer('replayed', async () => (await server.sql(`select from noted where id = ${id}`)).length === 1)
}

/** A standby of a server, which archives into the same directory when it is promoted. */
async function standbyOf(
  t: Test,
  { cluster, archive }: WalGround,
  primary: Pick<Cluster, 'source'>,
  name: string,
): Promise<CopyServer> {
  const directory = join(archive.base, name)
  await copyCluster({ ...cluster, ...primary }, directory, ['-R'])
  return startCopy(t, {
    ...{ installation: cluster.installation, directory, superuser: 'postgres', signalFile: 'standby.signal' },
    settings: { archive_mode: 'on', archive_command: archiveCommand(archive.programs, archive.directory) },
  })
}

t.test('the recovery point goes on over failovers', { timeout: 240_000 }, async (t) => {
  const ground = await walGround(t, { major: 17 })
  const { cluster, archive } = ground
  await cluster.sql('create table noted (id int)')
  // The address of whoever is the primary.
  const address = join(archive.base, 'primary')
  const leadTo = async ({ source }: Pick<Cluster, 'source'>) => {
    await symlink(source.host, `${address}-new`)
    await rename(`${address}-new`, address)
  }
  await leadTo(cluster)
  const sidecar = new AskedSidecar(archive.base)
  t.teardown(() => sidecar.kill())
  const { up } = await sidecar.start(ground.yaml({ host: address }))
  const fullId = await ground.takeBackup(await up)
  const untilPromised = async (server: Pick<Cluster, 'sql'>, committed: number, timeline: number) => {
    const isPromised = () => {
      const { point, report } = sidecar.said ?? { point: null, report: null }
      return point !== null && point > committed && report?.server?.timeline === timeline && report.repositories[0]
    }
    for (;;) {
      // A record of the server's own behind the segment may hide that all is stored: then the next one tells.
      await finishSegment(server)
      const finished = Date.now()
      const found = await sidecar.until(`a promise of timeline ${timeline}`, () =>
        Date.now() > finished + 3000 ? 'the next one' : isPromised(),
      )
      if (found !== 'the next one') return found
    }
  }

  const first = await standbyOf(t, ground, cluster, 'first')
  await note(cluster, 1, 2)
  await finishSegment(cluster)
  await untilPromised(cluster, await note(cluster, 3), 1)
  await sees(first, 3)
  // From here on the standby gets nothing.
  await first.sql('alter system reset primary_conninfo')
  await first.sql('select pg_reload_conf()')
  await untilAnswer('cut off', async () => (await first.sql('select from pg_stat_wal_receiver')).length === 0)
  const onlyThere = await note(cluster, 1000)
  await untilPromised(cluster, onlyThere, 1)
  await killOrphans(cluster.server.dataDirectory)

  await t.test('at the same address', async (t) => {
    const promoting = Date.now() // what it commits from here on may be its own already
    await first.sql('select pg_promote()')
    await leadTo(first)
    const stored = await untilPromised(first, await note(first, 4), 2)
    t.match(stored, { missingSegments: 0, gaps: [], end: { timeline: 2 } })
    const wrong = sidecar.heard.filter(
      ({ timeline, point }) => timeline === 2 && onlyThere < point && point < promoting,
    )
    t.same(wrong, [], 'what only the old primary had is never promised of the new one')
    t.ok(
      sidecar.heard.some(({ timeline, point }) => timeline === 2 && promoting < point),
      'but what it has itself',
    )
  })

  await t.test('at another one, with a new configuration', async (t) => {
    const second = await standbyOf(t, ground, first, 'second')
    await note(first, 5)
    await sees(second, 5)
    await first.stop()
    await sidecar.kill()
    await second.sql('select pg_promote()')
    await sidecar.start(ground.yaml({ host: second.source.host }))
    const stored = await untilPromised(second, await note(second, 6), 3)
    t.match(stored, { missingSegments: 0, gaps: [], end: { timeline: 3 } })
    t.match(sidecar.said?.report.archiver, { state: 'idle' })
    await second.stop()
  })
  await sidecar.kill()
  t.equal(sidecar.failure, null)

  const stored = await copyRepository(ground, ground.yaml({ host: address }))
  const there = (ids: ReadonlySet<number>) => [...ids].toSorted((a, b) => a - b)
  t.same(there(await stored.restore(t, ['--latest'])), [1, 2, 3, 4, 5, 6], 'all that the newest timeline has')
  t.same(there(await stored.restore(t, ['--latest', '--timeline=1'])), [1, 2, 3, 1000], 'all that the first one had')
  t.same(there(await stored.byHand(t, fullId, 3)), [1, 2, 3, 4, 5, 6], 'by hand, too')
})
