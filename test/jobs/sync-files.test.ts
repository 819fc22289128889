import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { keepSyncing } from '../../src/jobs/sync-files.ts'
import { FakeClock } from '../support/fake-clock.ts'

t.test('a sync that failed meanwhile is told at the end', async (t) => {
  const directory = t.testdir({})
  const [written, broken] = [join(directory, 'written'), join(directory, 'broken')]
  const clock = new FakeClock()
  const good = keepSyncing([written], clock)
  await clock.advance(600) // it is not there yet
  await writeFile(written, 'x')
  await clock.advance(600)
  t.equal(await good.end(), null)

  await symlink('broken', broken) // to itself: it cannot be opened
  const bad = keepSyncing([written, broken], clock)
  await clock.advance(600)
  t.match(await bad.end(), { code: 'ELOOP' })
})
