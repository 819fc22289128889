import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { segmentsOf } from '../../src/jobs/wal-stored.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { cli } from '../support/cli.ts'

t.test('a physical backup needs no sidecar: the command ships its WAL', { timeout: 120_000 }, async (t) => {
  const { cluster, archive, sidecar } = await physicalCluster(t, { major: 15 })
  const { sidecar: one, systemIdentifier } = await sidecar(t, {
    ships: false,
    yaml: { physical: { walTimeout: '1m' } },
  })
  await one.core.close()
  const file = join(one.directory, 'lifeboat.yaml')
  await writeFile(file, one.yaml)
  // Of no cluster, and not to be stored.
  await writeFile(join(archive, '000000010000000000000000'), Buffer.alloc(16 * 2 ** 20, 7))

  const first = await cli(['backup', '--type', 'full', '-c', file])
  t.equal(first.code, 0, first.err)
  const [manifest] = await one.manifests()
  const { physical } = manifest ?? {}
  if (physical === undefined) return t.fail('there is a backup')
  const stored = async (name: string) => (await one.repository.wal.ofSegment(systemIdentifier, name)).length
  for (const name of segmentsOf({ intervals: physical.wal, segmentSize: physical.segmentSize }))
    t.equal(await stored(name), 1, name)
  t.equal(await stored('000000010000000000000000'), 0)

  await cluster.sql('select pg_switch_wal()')
  const second = await cli(['backup', '--type', 'full', '-c', file])
  t.equal(second.code, 0, second.err)
  t.equal((await one.manifests()).length, 2)
  const plan = await cli(['plan', '--latest', '-c', file])
  t.equal(plan.code, 0, plan.out)
  t.match(plan.out, /can be restored/)
})
