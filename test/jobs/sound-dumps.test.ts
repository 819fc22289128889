import t from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import { overallVerdict } from '../../src/domain/proof.ts'
import { proofBody } from '../repository/fixtures/manifests.ts'
import { startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'

t.test('a restore of the newest backup passes over those that failed verification', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select 1 as i')
  const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
  for (let backup = 0; backup < 3; backup++) t.match(await sidecar.run('dump'), { state: 'succeeded' })
  const [oldest, middle, newest] = (await sidecar.manifests()) as readonly [Manifest, Manifest, Manifest]
  let second = 0
  const prove = async ({ backupId, checksum }: Manifest, verdict: 'pass' | 'fail') => {
    const finishedAt = `2027-01-01T00:00:${String(second++).padStart(2, '0')}Z`
    const level = { verdict, cause: 'x', checks: [], finishedAt, durationSeconds: 1 }
    const levels = { artifact: level, restore: level, data: level }
    const proof = await sidecar.repository.publishProof(
      proofBody(backupId, { manifestChecksum: checksum, finishedAt, level: 'data', levels }),
    )
    t.equal(overallVerdict(proof), verdict)
  }
  const restored = async () => {
    const run = await sidecar.run('restore', { database: 'app', target: 'copy' })
    await cluster.sql('drop database if exists copy')
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    return run.items[0]
  }
  t.match(await restored(), { backupId: newest.backupId, warnings: undefined })

  await prove(newest, 'fail')
  t.match(await restored(), {
    backupId: middle.backupId,
    warnings: [`newer backups were passed over, since their verification failed: ${newest.backupId}`],
  })
  await prove({ ...middle, checksum: '0'.repeat(64) }, 'fail')
  t.match(await restored(), { backupId: middle.backupId }, 'a proof of other bytes says nothing')
  await prove(middle, 'fail')
  t.match(await restored(), {
    backupId: oldest.backupId,
    warnings: [new RegExp(`${newest.backupId}, ${middle.backupId}$`)],
  })
  t.match(await sidecar.run('restore', { backup: newest.backupId, target: 'named' }), { state: 'succeeded' })

  await prove(oldest, 'fail')
  t.match(await sidecar.run('restore', { database: 'app', target: 'copy' }), {
    state: 'failed',
    failure: {
      code: 'verification-failed',
      message: /did not fail/,
      hint: new RegExp(`by its id.*${newest.backupId}`),
    },
  })
  await prove(newest, 'pass')
  const found = await restored()
  t.match(found, { backupId: newest.backupId })
  t.equal(found?.warnings, undefined, 'a later pass makes it good again')
})
