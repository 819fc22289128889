import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Repository } from '../../src/repository/repository.ts'
import { openHistory } from '../../src/runner/history.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { GetOptions, StoredObject } from '../../src/storage/storage.ts'
import { verifyWal } from '../../src/wal-check/verify-wal.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { storedCluster } from '../support/stored.ts'
import { storeSegment } from '../support/wal-objects.ts'

/** Never gives the second segment. */
class Hanging extends LocalStorage {
  override get(key: string, options?: GetOptions): Promise<StoredObject> {
    return key.includes('000000010000000000000002-') ? new Promise(() => {}) : super.get(key, options)
  }
}

t.test('a repository that hangs while it is read', { timeout: 30_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const alive = setInterval(() => {}, 1000) // as an open connection does
  t.teardown(() => clearInterval(alive))
  const root = join(directory, 'repository')
  const clock = systemClock
  const good = new Repository({
    name: 'one',
    cluster: storedCluster,
    storage: new LocalStorage({ root, clock }),
    clock,
  })
  const names = [1, 2, 3].map((number) => `00000001000000000000000${number}`)
  for (const name of names) await storeSegment(good, name)
  const history = openHistory({ file: join(directory, 'lifeboat.db'), clock, log: keptLog().log })
  t.teardown(() => history.close())
  const { signal } = new AbortController()
  const common = { records: history.wal.verified, clock, all: false, limit: null, signal }
  const storage = new Hanging({ root, clock })
  const hung = new Repository({ name: 'one', cluster: storedCluster, storage, clock })
  await t.rejects(verifyWal({ ...common, repository: hung, patienceMs: 300 }), {
    code: 'timed-out',
    message: 'it has not answered for 0.3 s',
  })
  t.match(
    await verifyWal({ ...common, repository: good, patienceMs: 30_000 }),
    { complete: true, bad: [] },
    'nothing is said of what was not read',
  )
})
