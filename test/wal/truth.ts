import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { Random } from '../chaos/random.ts'
import { AskedSidecar } from '../support/asked-sidecar.ts'
import type { Major } from '../support/postgres.ts'
import { walGround } from '../support/wal-ground.ts'
import { judge, type Promised, ways } from './truth-judge.ts'
import { Load, loadTables } from './truth-load.ts'
import { copyRepository } from './truth-restore.ts'

export interface TruthOptions {
  readonly major: Major
  readonly kills: number
  readonly seed: number
  /** WAL is received while it is written; nothing is archived, and hardly a segment is ever full. */
  readonly stream: boolean
}

/**
 * A server under load, and the real sidecar beside it. Again and again one of them, or both, is killed. Then what the
 * repository holds at that instant is restored from a backup that was taken in the beginning: everything that had been
 * confirmed before the latest moment that the sidecar had ever named must be in it, and nothing that was committed after the
 * moment that was asked for.
 */
export async function truth(t: Test, { major, kills, seed, stream }: TruthOptions): Promise<void> {
  t.comment(`PostgreSQL ${major}, ${kills} kills, seed ${seed}${stream ? ', streaming' : ''}`)
  const random = new Random(seed)
  const archiving = stream ? {} : { archive_timeout: '1' }
  const ground = await walGround(t, {
    ...{ major, archives: !stream },
    settings: {
      ...{ ...archiving, full_page_writes: 'on', wal_writer_delay: '100ms', track_commit_timestamp: 'on' },
      ...(major >= 17 ? { summarize_wal: 'on' } : {}),
    },
  })
  const { cluster, archive } = ground
  await cluster.sql(loadTables)
  const yaml = ground.yaml({ wal: stream ? { stream: { shipEvery: '1s' } } : {} })
  const sidecar = new AskedSidecar(archive.base)
  t.teardown(() => sidecar.kill())
  const { up } = await sidecar.start(yaml)
  const served = await up
  if (stream) await sidecar.until('the receiver', () => sidecar.said?.report.slots?.some(({ active }) => active))
  const fullId = await ground.takeBackup(served)
  const load = new Load(cluster.source, { fillEveryMs: stream ? 3000 : 50 })
  t.teardown(() => load.stop())
  load.start()
  if (major >= 17) await ground.takeBackup(served, 'incremental')
  const first = Math.floor(random.next() * ways.length)
  const begun = Date.now()
  let [total, before] = [0, begun]
  await sidecar.until('the first promise', () => (sidecar.promised ?? 0) > before)
  for (let round = 0; round < kills; round += 1) {
    // Now and then it is killed while it starts, or catches up.
    if (random.next() < 0.9) await sidecar.until('what it says after its start', () => sidecar.said !== null)
    if (random.next() < 0.7) await sidecar.until('a later one', () => (sidecar.promised ?? 0) > before)
    await delay(random.between(0, 1500))
    const deed = random.pick(['server', 'sidecar', 'both'] as const)
    // No await between: this is the instant.
    const [point, confirmed] = [sidecar.promised ?? 0, [...load.confirmed]]
    sidecar.signal(deed === 'server' ? 'SIGSTOP' : 'SIGKILL')
    if (deed !== 'sidecar') await killOrphans(cluster.server.dataDirectory)
    t.equal(sidecar.failure, null, 'the sidecar never ends by itself')
    if (deed !== 'server') await sidecar.kill()

    const stored = await copyRepository(ground, yaml)
    const way = ways[(first + round) % ways.length] as (typeof ways)[number]
    const promised: Promised = { point, begun, points: [...load.points] }
    const asked = way(promised, random)
    const restoring = Date.now()
    const there = asked.args === null ? await stored.byHand(t, fullId, 1) : await stored.restore(t, asked.args)
    const took = Date.now() - restoring
    if (deed !== 'sidecar') {
      await cluster.server.stop('immediate')
      await cluster.server.start()
    }
    const times = await load.commitTimes()
    const { due, absent, surplus } = judge(asked, { there, confirmed, times, lost: load.lost })
    const words = `round ${round}, ${deed} killed, ${asked.args?.join(' ') ?? 'by hand'}`
    t.same(absent, [], `${words}: all of ${due} are there`)
    t.same(surplus, [], `${words}: nothing that came after`)
    const lag = ((confirmed.at(-1)?.at ?? 0) - point) / 1000
    t.comment(`the newest commit was ${lag.toFixed(1)} s after the point; ${there.size} there after ${took} ms`)
    total += due
    before = point
    await stored.remove()
    if (deed === 'server') sidecar.signal('SIGCONT')
    else await sidecar.start(yaml)
  }
  t.ok(total > 0, `${total} commits were promised`)
  await load.stop()

  // Idle, with everything stored: it is the present. After a crash archive_timeout is looked at from the next checkpoint on.
  await cluster.sql('select pg_switch_wal()')
  await sidecar.until('the present', () => {
    const { said } = sidecar
    return said?.report.repositories[0]?.exposureBytes === 0 && said.at - (said.point ?? 0) < 3000
  })
  t.equal(sidecar.wentBack, 0, 'it never went back')
  await killOrphans(cluster.server.dataDirectory)
  await sidecar.kill()
  const [last, stopped] = [sidecar.promised ?? 0, Date.now()]
  await sidecar.start(yaml)
  const remembered = await sidecar.until('what it remembers', () => sidecar.said?.point ?? undefined)
  t.ok(remembered <= stopped && remembered >= last - 11_000, 'and stands still without a server')
  t.equal(sidecar.failure, null)
  await cluster.server.stop('immediate')
}
