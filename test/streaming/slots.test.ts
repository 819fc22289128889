import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createSnapshot } from '../../src/metrics/snapshot.ts'
import { writeSlots, writeStream } from '../../src/metrics/wal-stream.ts'
import { createSlotsLook } from '../../src/observe/slots.ts'
import { cli } from '../support/cli.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { replicationHba } from '../support/streaming.ts'
import { untilAnswer } from '../support/until.ts'

t.test('slots that hold WAL back', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, {
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: { max_wal_size: '4MB', min_wal_size: '2MB', wal_level: 'logical' },
    hba: replicationHba,
  })
  const directory = await scratchDirectory(t)
  const configured = async (wal: object) => {
    const path = join(directory, 'lifeboat.yaml')
    await writeFile(path, sidecarYaml(cluster, directory, { yaml: { wal } }))
    return path
  }
  const check = async (wal: object) => {
    const { out } = await cli(['check', '--config', await configured(wal)])
    return out
      .split('\n')
      .filter((line) => /slot|WAL/.test(line))
      .join('\n')
  }
  const look = createSlotsLook({ source: cluster.source, maintenanceDatabase: 'postgres', limitBytes: 2 ** 20 })
  const signal = new AbortController().signal
  t.same(await look(signal), [], 'none')

  await cluster.sql(`select pg_create_physical_replication_slot('lazy', true)`)
  await cluster.sql(`select pg_create_physical_replication_slot('empty')`)
  await cluster.sql(`create table t as select i, repeat('x', 900) from generate_series(1, 3000) i`)
  await cluster.sql(`select pg_create_logical_replication_slot('decoded', 'pgoutput')`)
  const slots = await look(signal)
  t.match(slots, [
    { name: 'decoded', type: 'logical', active: false, walStatus: 'reserved', overLimit: false },
    { name: 'empty', type: 'physical', walStatus: null, retainedBytes: null, overLimit: false },
    { name: 'lazy', type: 'physical', active: false, overLimit: true },
  ])
  t.ok((slots[2]?.retainedBytes ?? 0) > 2 ** 20)

  const metrics = createSnapshot('main')
  writeSlots(metrics, slots, 2 ** 20)
  writeStream(metrics, null)
  const text = await metrics.text()
  t.match(text, /slot_retained_bytes\{cluster_name="main",slot="lazy"\} [1-9]/)
  t.notMatch(text, /slot_retained_bytes\{cluster_name="main",slot="empty"\}/, 'none is not zero')
  t.match(text, /lifeboat_policy_slot_retained_bytes\{cluster_name="main"\} 1048576/)
  t.notMatch(text, /^lifeboat_wal_stream_up\{/m)

  const told = await check({ slotLimit: '1MiB' })
  t.match(told, /the slot lazy keeps .* more than wal.slotLimit .*nobody receives with it/)
  t.match(told, /the slot decoded keeps .* nobody receives with it/)
  t.notMatch(told, /the slot empty/)

  await cluster.sql('alter system set max_slot_wal_keep_size = 0')
  await cluster.sql('select pg_reload_conf()')
  await untilAnswer('it is given up', async () => {
    await cluster.sql('insert into t select * from t limit 2000')
    await cluster.sql('checkpoint')
    return (await look(signal)).find(({ name, walStatus }) => name === 'lazy' && walStatus === 'lost')
  })
  t.match(await check({}), /the server has given the slot lazy up/)

  const archive = join(directory, 'archive')
  t.match(await check({ archive, stream: {} }), /ok .*WAL can be received through the slot lifeboat/)
  const setup = await cli(['wal', 'setup', '--config', await configured({ archive, stream: {} })])
  t.equal(setup.code, 0, setup.err)
  t.match(
    setup.out,
    /wal_level +logical +right[\s\S]*pg_hba.conf +lets it in +right[\s\S]*archive_mode and archive_command are not needed/,
  )
  t.match(await cli(['wal', 'setup', '--apply', '--config', await configured({ archive, stream: {} })]), { code: 2 })
})
