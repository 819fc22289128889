import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { replicationHba, segmentsIn, streamingFrom } from '../support/streaming.ts'
import { untilAnswer } from '../support/until.ts'

const small = ['-E', 'UTF8', '--locale=C', '--wal-segsize=1']
const failedWith = (words: RegExp) => (state: { failure: { message: string; hint?: string } | null }) =>
  words.test(`${state.failure?.message} ${state.failure?.hint}`)

t.test('who may not', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, { tcp: true, initdbArgs: small, hba: replicationHba })
  await cluster.sql(`create role weak login password 'right'`)
  const wrong = await streamingFrom(t, { ...cluster, source: cluster.as('weak', 'wrong') })
  wrong.streamer.start()
  await wrong.until('wrong password', ({ failure }) => failure?.code === 'server-authentication')
  await wrong.streamer.stop()
  t.equal(wrong.lines.filter(({ level }) => level === 50).length, 1, 'told once')

  const weak = await streamingFrom(t, { ...cluster, source: cluster.as('weak', 'right') })
  weak.streamer.start()
  await weak.until('no REPLICATION', failedWith(/ALTER ROLE "weak" REPLICATION/))
  await cluster.sql('alter role weak replication')
  await cluster.sql('grant pg_monitor to weak')
  t.match(await weak.untilStreaming(), { failure: null }, 'the password is in no argument, and it works')
  await weak.untilAll(cluster)
})

t.test('the slot', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, {
    initdbArgs: small,
    hba: replicationHba,
    settings: { max_wal_size: '3MB', min_wal_size: '2MB', wal_level: 'logical' },
  })
  await cluster.sql('create table t (i int, filler text)')
  const one = await streamingFrom(t, cluster)

  t.test('of two sidecars one receives', async (t) => {
    one.streamer.start()
    await one.untilStreaming()
    const two = await streamingFrom(t, cluster, { archive: one.archive })
    two.streamer.start()
    await two.until('it is told who has it', failedWith(/somebody else receives .* process \d+, lifeboat/))
    await two.until('it is tried again', ({ failures }) => failures > 2)
    t.equal(two.lines.filter(({ level }) => level === 50).length, 1, 'and told once')
    t.match(one.streamer.state(), { isUp: true, failures: 0 })
    await one.streamer.stop()
    await two.untilStreaming()
    await two.streamer.stop()
  })

  t.test('whose lease it is', async (t) => {
    let isOurs = false
    const two = await streamingFrom(t, cluster, { archive: one.archive, isOurs: () => isOurs })
    two.streamer.start()
    await two.until('it stands by', ({ phase }) => phase === 'standby')
    isOurs = true
    await two.untilStreaming()
    isOurs = false
    await two.until('it stands by again', ({ phase, isUp }) => phase === 'standby' && isUp === null)
    t.same(await two.receivers(), [])
    await two.streamer.stop()
  })

  t.test('dropped by hand while nothing was missed', async (t) => {
    await cluster.sql(`select pg_drop_replication_slot('lifeboat')`)
    one.streamer.start()
    await one.untilStreaming()
    t.match(one.streamer.state(), { holes: 0 })
    t.match(one.lines.filter(({ msg }) => msg === 'there was no such slot: it is made').length, 2)
    await one.streamer.stop()
  })

  t.test('dropped by hand, and the WAL is gone', async (t) => {
    const before = await segmentsIn(one.archive)
    await cluster.sql(`select pg_drop_replication_slot('lifeboat')`)
    await forget(cluster, 8)
    one.streamer.start()
    await one.untilStreaming()
    await one.untilAll(cluster)
    t.match(one.streamer.state(), { holes: 1 })
    t.ok(one.lines.some(({ level, msg }) => level === 50 && /^a hole/.test(String(msg))))
    t.same((await segmentsIn(one.archive)).slice(0, before.length), before, 'what was there stays')
    t.ok(
      (await readdir(one.receiving)).some((name) => /\.partial\.[0-9a-f]{12}$/.test(name)),
      'the torn end as well',
    )
    await one.streamer.stop()
  })

  t.test('given up by the server', async (t) => {
    await cluster.sql('alter system set max_slot_wal_keep_size = 0')
    await cluster.sql('select pg_reload_conf()')
    await untilAnswer('lost', async () => {
      await forget(cluster, 2)
      return (await cluster.sql(`select from pg_replication_slots where wal_status = 'lost'`)).length > 0
    })
    one.streamer.start()
    await one.untilStreaming()
    t.match(one.streamer.state(), { holes: 2 })
    t.ok(one.lines.some(({ msg }) => msg === 'the server had given the slot up: it is made anew'))
    await one.streamer.stop()
    // The server lets go of it a little later.
    await untilAnswer('let go of', async () => {
      const dropped = await cluster.sql(
        `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'lifeboat' and not active`,
      )
      return dropped.length > 0
    })
  })

  t.test('a logical one', async (t) => {
    await cluster.sql(`select pg_create_logical_replication_slot('taken', 'pgoutput')`)
    const other = await streamingFrom(t, cluster, { slot: 'taken' })
    other.streamer.start()
    await other.until('refused', failedWith(/is a logical one/))
    await other.streamer.stop()
    await cluster.sql(`select pg_drop_replication_slot('taken')`)
  })
})

t.test('the directory', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, { initdbArgs: small, hba: replicationHba })
  await cluster.sql('create table t (i int, filler text)')
  const one = await streamingFrom(t, cluster)
  const { streamer, archive, receiving } = one

  t.test('removed under the receiver, and not mounted', async (t) => {
    streamer.start()
    await one.untilStreaming()
    await rm(archive, { recursive: true })
    await one.until('noticed', failedWith(/mount the disk/))
    await write(cluster, 3)
    await mkdir(receiving, { recursive: true })
    await one.untilStreaming()
    await one.untilAll(cluster)
    t.equal(streamer.state().holes, 0, 'the slot kept it')
    await streamer.stop()
  })

  t.test('a partial that was torn', async (t) => {
    const [name = ''] = await readdir(receiving)
    t.match(name, /\.partial$/)
    await writeFile(join(receiving, name), Buffer.alloc(5000))
    streamer.start()
    await one.untilStreaming()
    t.equal((await readFile(join(receiving, name))).length, 2 ** 20)
    await streamer.stop()
  })

  t.test('other bytes under the name of what comes', async (t) => {
    const [partial = ''] = await readdir(receiving)
    const name = partial.slice(0, 24)
    await writeFile(join(archive, name), 'something else')
    streamer.start()
    await write(cluster, 2)
    await one.until('refused', failedWith(/other bytes are stored as/))
    t.equal(await readFile(join(archive, name), 'utf8'), 'something else', 'nothing is replaced')
    await rm(join(archive, name))
    await one.untilAll(cluster)
    t.ok((await segmentsIn(archive)).includes(name))
    await streamer.stop()
  })

  t.test('full', async (t) => {
    const disk = await smallDisk(t, 2.5 * 2 ** 20)
    if (disk === null) return t.comment(noSmallDisk)
    const full = await streamingFrom(t, cluster, { archive: join(disk.directory, 'archive'), slot: 'full' })
    full.streamer.start()
    await write(cluster, 5)
    await full.until('noticed', ({ failure }) => failure?.code === 'disk-full')
    await disk.resize(64 * 2 ** 20)
    await full.untilAll(cluster)
    const numbers = (await segmentsIn(full.archive)).map((name) => Number.parseInt(name.slice(16), 16))
    t.same(
      numbers,
      numbers.map((_, index) => (numbers[0] ?? 0) + index),
      'without a gap',
    )
    await full.streamer.stop()
  })

  t.test('not to be made', async (t) => {
    const none = await streamingFrom(t, cluster, { archive: '/dev/null/archive', slot: 'none' })
    none.streamer.start()
    await none.until('noticed', ({ failure }) => failure?.code === 'storage-failed')
    await none.streamer.stop()
    t.same(
      await cluster.sql(`select from pg_replication_slots where slot_name = 'none'`),
      [],
      'no slot holds WAL for it',
    )
  })
})

/** Writes so many segments, and lets the server forget what nobody needs. */
async function forget(cluster: Cluster, segments: number): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await write(cluster, segments)
    await cluster.sql('checkpoint')
  }
}

async function write(cluster: Cluster, segments: number): Promise<void> {
  await cluster.sql(`insert into t select i, repeat('x', 1000) from generate_series(1, ${segments * 1000}) i`)
}
