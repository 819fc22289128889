import { readFile, rm, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Cluster } from '../support/postgres.ts'
import { untilAnswer } from '../support/until.ts'
import { finishSegment } from '../support/wal-ground.ts'
import { runWalService, startArchiving, startWalSidecar, storedWalKeys } from '../support/wal-service.ts'

async function systemOf(cluster: Cluster): Promise<string> {
  const [row] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  return row?.id ?? ''
}

async function finishSegments(cluster: Cluster, count: number): Promise<readonly string[]> {
  const names: string[] = []
  for (let done = 0; done < count; done += 1) names.push(await finishSegment(cluster))
  return names
}

t.test('initdb into an archive in use: what is new is stored under names that were stored before', async (t) => {
  const { cluster, archive, repository, served } = await runWalService(t)
  const old = await systemOf(cluster)
  const of = async (system: string) => (await storedWalKeys(repository)).filter((key) => key.startsWith(system))
  const names = await finishSegments(cluster, 6)
  await untilAnswer('all of the old one stored', async () => (await of(old)).length === 6)
  await served.end()
  await cluster.server.stop()
  // The beginning was pruned, and what is left goes on where the WAL ends that the new cluster archives unseen.
  for (const name of names.slice(0, 3)) await rm(join(archive.directory, name))
  const anew = await startArchiving(t, archive, { major: 17 })
  t.strictSame(await finishSegments(anew, 3), names.slice(0, 3), 'the names repeat')
  await untilAnswer('archived', async () => (await archive.stored()).length === 6)
  const again = await startWalSidecar(t, anew, archive, { wal: {}, repository })
  const now = await systemOf(anew)
  await untilAnswer('all of the new one stored', async () => (await of(now)).length === 3)
  t.equal((await of(old)).length, 6, 'beside that of the old one')
  const [local] = (await again.report()).repositories
  t.strictSame(local?.others, [old])
  t.equal(await again.metric('lifeboat_wal_quarantined_files'), 0)
})

t.test('a segment that gets other bytes after it was stored is told, and what is stored stays', async (t) => {
  const { cluster, archive, repository, metric, served } = await runWalService(t)
  const [name = ''] = await finishSegments(cluster, 2)
  const before = await untilAnswer('stored', async () => {
    const keys = await storedWalKeys(repository)
    return keys.length === 2 && keys
  })
  const bytes = await readFile(join(archive.directory, name))
  bytes.writeUInt8(bytes.readUInt8(9000) ^ 1, 9000)
  await writeFile(join(archive.directory, name), bytes)
  await untilAnswer('told', async () => (await metric('lifeboat_wal_quarantined_files')) === 1)
  t.match(
    served.lines.filter((line) => 'reason' in line),
    [{ name, reason: 'contradicts' }],
  )
  t.strictSame(await storedWalKeys(repository), before)
})

t.test('a damaged segment is missing, not on its way, until it is archived anew', async (t) => {
  const { cluster, archive, repository, served } = await runWalService(t)
  await finishSegments(cluster, 2)
  await untilAnswer('stored', async () => (await storedWalKeys(repository)).length === 2)
  await served.end()
  const [name = ''] = await finishSegments(cluster, 2)
  await untilAnswer('archived', async () => (await archive.stored()).length === 4)
  const path = join(archive.directory, name)
  const whole = await readFile(path)
  await unlink(path)
  await writeFile(path, Buffer.alloc(whole.length))
  const again = await startWalSidecar(t, cluster, archive, { wal: {}, repository })
  const missing = () => again.metric('lifeboat_wal_missing_segments')
  const local = await untilAnswer('missing', async () => {
    const [found] = (await again.report()).repositories
    return found?.missingSegments === 1 && found.backlogSegments === 0 && found
  })
  t.match(local.gaps, [{ first: name, last: name, segments: 1 }])
  // The text of the metrics may be a moment behind.
  await untilAnswer('told', async () => (await again.metric('lifeboat_wal_quarantined_files')) === 1)
  await untilAnswer('told', async () => (await missing()) === 1)
  await unlink(path)
  await writeFile(path, whole)
  await untilAnswer('mended', async () => (await missing()) === 0)
  await untilAnswer('stored', async () => (await storedWalKeys(repository)).length === 4)
})

t.test(
  'a server that was put back to an earlier copy, on its timeline: what it writes then is not covered',
  async (t) => {
    const { cluster, archive, repository, report, metric, served } = await runWalService(t)
    const { dataDirectory } = cluster.server
    const saved = join(archive.base, 'saved')
    await finishSegments(cluster, 1)
    await cluster.server.stop()
    await runProgram({ program: 'cp', args: ['-a', dataDirectory, saved] })
    await cluster.server.start()
    await finishSegments(cluster, 3)
    const before = await untilAnswer('stored', async () => {
      const [local] = (await report()).repositories
      return local?.exposureBytes === 0 && local.segments === 4 && local
    })
    const keys = await storedWalKeys(repository)
    await cluster.server.stop()
    await rm(dataDirectory, { recursive: true })
    await runProgram({ program: 'cp', args: ['-a', saved, dataDirectory] })
    const putBack = new Date()
    await cluster.server.start()
    await cluster.sql('create table other as select 1')
    await untilAnswer('told', async () =>
      served.lines.some(({ level, stored }) => level === 50 && stored !== undefined),
    )
    const after = await untilAnswer('no number', async () => {
      const [local] = (await report()).repositories
      return local?.exposureBytes === null && local
    })
    t.ok(Date.parse(after.coveredUntil ?? '') >= Date.parse(before.coveredUntil ?? ''), 'what is stored counts')
    t.ok(Date.parse(after.coveredUntil ?? '') <= putBack.getTime(), 'up to when it was put back')
    await untilAnswer('no series', async () => (await metric('lifeboat_recovery_exposure_bytes')) === undefined)
    await finishSegments(cluster, 1)
    await untilAnswer('refused', async () => (await report()).archiver?.state === 'failing')
    t.strictSame(await storedWalKeys(repository), keys)
  },
)
