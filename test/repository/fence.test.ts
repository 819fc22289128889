import t from 'tap'
import { backupId } from '../../src/domain/backup.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { dumpBody, putDump } from './fixtures/manifests.ts'

t.test('whoever has lost the lease publishes and removes nothing', async (t) => {
  const root = await scratchDirectory(t)
  const clock = new FakeClock()
  const storage = new LocalStorage({ root, clock })
  let isOurs = true
  const fence = async () => {
    if (!isOurs) throw new LifeboatError('conflict', 'the lease is gone')
  }
  const repository = new Repository({ name: 'main', cluster: 'prod', storage, clock, fence })
  const { signal } = new AbortController()
  const lost = { code: 'conflict', message: 'the lease is gone' }
  const write = async (random: string) => {
    const id = backupId(clock.now(), 'dump', random)
    const writer = await repository.beginBackup(id, { runId: 'run', signal })
    await putDump(writer)
    return { id, writer }
  }
  const { id, writer } = await write('aaaaaa')
  await writer.publish(dumpBody(id))
  const late = await write('bbbbbb')
  const dead = await write('cccccc')

  isOurs = false
  await t.rejects(late.writer.publish(dumpBody(late.id)), lost)
  t.equal((await repository.inspect(late.id))?.state, 'in-progress', 'no manifest')
  await late.writer.abandon()
  t.equal(await repository.inspect(late.id), null, 'what it had begun is its own')
  await t.rejects(write('dddddd'), lost)
  const options = { runId: 'run', needs: [], isDead: () => false }
  await t.rejects(repository.expireBackup(id, options), lost)
  t.match(await repository.inspect(id), { state: 'complete', inProgress: null })
  await t.rejects(repository.cleanUp({ isLapsed: () => true }), lost)
  t.equal((await repository.inspect(dead.id))?.state, 'in-progress')

  isOurs = true
  t.same(await repository.cleanUp({ isLapsed: () => true }), [dead.id])
  await repository.expireBackup(id, options)
  t.equal(await repository.inspect(id), null)
  await dead.writer.abandon()
})
