import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { replicationHba, segmentsIn, streamingFrom } from '../support/streaming.ts'
import { untilAnswer } from '../support/until.ts'

const segmentSize = 1024 * 1024
const small = ['-E', 'UTF8', '--locale=C', '--wal-segsize=1']

for (const major of [15, 17, 18] as const) {
  t.test(`PostgreSQL ${major}`, { timeout: 240_000 }, (t) => streams(t, major))
}

async function streams(t: Test, major: Major): Promise<void> {
  const cluster = await startCluster(t, { major, initdbArgs: small, hba: replicationHba })
  await cluster.sql('create table t (i int, filler text)')
  const streaming = await streamingFrom(t, cluster)
  const { streamer, archive, receiving, partials } = streaming

  t.test('from nothing: directory, slot, segments, partials', async (t) => {
    t.equal(streamer.state().phase, 'stopped')
    streamer.start()
    t.match(await streaming.untilStreaming(), { failure: null, failures: 0, holes: 0 })
    await write(cluster, 4)
    const end = await streaming.untilAll(cluster)
    await untilAnswer('a partial to the end', async () => (partials.at(-1)?.endLsn ?? 0n) >= end)
    const newest = partials.at(-1)
    t.equal(newest?.bytes.length, Number((newest?.endLsn ?? 0n) % BigInt(segmentSize)))
    t.ok(await isAsOnServer(cluster, newest?.segment ?? '', newest?.bytes ?? Buffer.alloc(0)))
    await untilAnswer('segments', async () => (await segmentsIn(archive)).length >= 3)
    await allAsOnServer(t, cluster, archive)
    t.same(await segmentsIn(receiving), [], 'what is finished goes on')
    const before = partials.length
    t.equal(partials.filter(({ endLsn }) => endLsn === newest?.endLsn).length, 1, 'nothing twice')
    t.ok(before > 0)
  })

  t.test('a receiver that is killed, again and again', async (t) => {
    for (let round = 0; round < 5; round += 1) {
      await write(cluster, 1)
      for (const pid of await streaming.receivers()) process.kill(pid, 'SIGKILL')
      await write(cluster, 1)
    }
    const { failures } = await streaming.until('a failure', (state) => state.failures > 0)
    t.ok(failures >= 1)
    await streaming.untilAll(cluster)
    await streaming.untilStreaming()
    await allAsOnServer(t, cluster, archive)
    await isWithoutGap(t, archive)
  })

  t.test('a receiver that hangs', async (t) => {
    const [pid = 0] = await streaming.receivers()
    process.kill(pid, 'SIGSTOP')
    await write(cluster, 1)
    await untilAnswer('it is noticed', async () => {
      streaming.clock.skip(61_000)
      return /hangs/.test(streamer.state().failure?.message ?? '')
    })
    await streaming.untilAll(cluster)
    t.notOk((await streaming.receivers()).includes(pid), 'it is gone')
    await streaming.untilStreaming()
  })

  t.test('the server is killed, and comes back', async (t) => {
    await write(cluster, 1)
    await cluster.server.stop('immediate')
    await streaming.until('it is noticed', ({ failure }) => failure?.code === 'server-unreachable')
    t.equal(streamer.state().isUp, false)
    await cluster.server.start()
    await write(cluster, 1)
    await streaming.untilAll(cluster)
    await streaming.untilStreaming()
    await allAsOnServer(t, cluster, archive)
    await isWithoutGap(t, archive)
    t.equal(streamer.state().holes, 0)
  })

  t.test('stopped', async (t) => {
    await streamer.stop()
    t.match(streamer.state(), { phase: 'stopped', isUp: null })
    t.same(await streaming.receivers(), [])
  })
}

/** Writes about so many segments, and commits. */
async function write(cluster: Cluster, segments: number): Promise<void> {
  await cluster.sql(`insert into t select i, repeat('x', 900) from generate_series(1, ${segments * 1000}) i`)
}

/** What the server has of a segment; it may have recycled it. */
async function isAsOnServer(cluster: Cluster, segment: string, bytes: Buffer): Promise<boolean> {
  const theirs = await readFile(join(cluster.server.dataDirectory, 'pg_wal', segment))
  return theirs.subarray(0, bytes.length).equals(bytes)
}

async function allAsOnServer(t: Test, cluster: Cluster, archive: string): Promise<void> {
  const names = await segmentsIn(archive)
  let compared = 0
  for (const name of names) {
    const bytes = await readFile(join(archive, name))
    t.equal(bytes.length, segmentSize)
    const theirs = await readFile(join(cluster.server.dataDirectory, 'pg_wal', name)).catch(() => null)
    if (theirs === null) continue
    compared += 1
    if (!theirs.equals(bytes)) t.fail(`${name} has other bytes than on the server`)
  }
  t.ok(compared > 0, 'some were still there to compare with')
}

async function isWithoutGap(t: Test, archive: string): Promise<void> {
  const numbers = (await segmentsIn(archive)).map((name) => Number.parseInt(name.slice(16), 16))
  t.same(
    numbers,
    numbers.map((_, index) => (numbers[0] ?? 0) + index),
    'no segment is missing',
  )
}
