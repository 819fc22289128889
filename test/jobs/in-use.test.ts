import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import { startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'

t.test('a backup that is being read does not expire', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table people as select g as id from generate_series(1, 1000) g')
  const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await sidecar.run('dump'), { state: 'succeeded' })
  const [{ backupId }] = (await sidecar.manifests()) as readonly [Manifest]
  const { repository, directory } = sidecar
  const uses = join(directory, 'repository', 'test', 'uses')
  const purposes = async () => {
    const found: unknown[] = []
    for await (const { key, backupId: of } of repository.listUses())
      found.push([of, (await repository.readUse(key))?.purpose])
    return found
  }
  const expire = () => repository.expireBackup(backupId, { runId: 'e', needs: [], isDead: () => false })

  for (const [job, params] of [
    ['verify', {}],
    ['restore', { database: 'app', target: 'copy' }],
  ] as const) {
    const { ended } = sidecar.begin(job, params)
    while ((await purposes()).length === 0) await nextTurn()
    t.same(await purposes(), [[backupId, job]])
    await t.rejects(expire(), { code: 'conflict', message: /in use/ }, job)
    t.match(await ended, { state: 'succeeded' })
    t.notOk(existsSync(uses), 'the mark is taken away')
  }

  const cancelled = sidecar.begin('verify')
  while ((await purposes()).length === 0) await nextTurn()
  sidecar.core.runner.cancel(cancelled.id)
  t.match(await cancelled.ended, { state: 'cancelled' })
  t.notOk(existsSync(uses), 'also when the run is cancelled')

  await writeFile(uses, 'a file where the folder should be: no mark can be put')
  t.match(
    await sidecar.run('restore', { database: 'app', target: 'copy2' }),
    { state: 'succeeded' },
    'it restores all the same',
  )
  t.match(await sidecar.run('verify', { level: 'artifact' }), { state: 'succeeded' })
  t.ok(sidecar.lines.some(({ msg }) => msg === 'cannot mark the backup as in use'))
  await rm(uses)

  const claim = join(sidecar.folder({ backupId } as Manifest), '.inprogress')
  const at = systemClock.now().toISOString()
  await writeFile(
    claim,
    JSON.stringify({ runId: 'e', token: 't', host: 'h', pid: 1, startedAt: at, heartbeatAt: at, purpose: 'expire' }),
  )
  const refused = { state: 'failed', failure: { code: 'conflict', message: /being removed by expiry/ } }
  t.match(await sidecar.run('verify'), refused)
  t.match(await sidecar.run('restore', { database: 'app', target: 'copy3' }), refused)
  await rm(claim)
  await expire()
  t.same(await sidecar.manifests(), [])
})
