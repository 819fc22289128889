import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'

t.test('an empty folder, left by one who was killed between its last file and itself, goes', async (t) => {
  const root = t.testdir({})
  const storage = new LocalStorage({ root, clock: systemClock })
  const repository = new Repository({ name: 'local', cluster: 'main', storage, clock: systemClock })
  const folder = join(root, 'main', 'backups', '20260301T000000Z-dump-aaaaaa')
  await mkdir(folder, { recursive: true })
  t.same(await repository.cleanUp({ isLapsed: () => false }), [], 'it was no backup')
  t.notOk(existsSync(folder))
})
