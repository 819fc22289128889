import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { checkArchiveRoom } from '../../src/check/archive-room.ts'
import { loadConfig } from '../../src/config/load.ts'
import { scratchDirectory } from '../support/scratch.ts'

t.test('an archive from which nothing is removed is told of before its disk is full', async (t) => {
  const archive = join(await scratchDirectory(t), 'archive')
  const configured = (more: string) =>
    loadConfig({
      text: `cluster: test\nrepositories: [{ name: local, url: "file:///tmp/r" }]\nwal: { archive: ${archive}${more} }\n`,
      env: {},
    })
  const check = async (usedPercent: number, more = '') =>
    checkArchiveRoom(await configured(more), async () => ({ totalBytes: 1000, freeBytes: 1000 - usedPercent * 10 }))
  t.same(await check(99), [], 'what is not there is told of elsewhere')
  await mkdir(archive)
  const segment = join(archive, '000000010000000000000001')
  await writeFile(segment, '')
  t.same(await check(79), [])
  t.match(await check(80), [{ status: 'warning', what: /80 % full, and nothing removes/, hint: /keepInArchive/ }])
  t.same(await check(94, ', keepInArchive: 2d'), [], 'lifeboat does')
  t.match(await check(95, ', keepInArchive: 2d'), [{ status: 'error', hint: /wal status/ }])
  t.match(await check(95), [{ status: 'error', hint: /set wal.keepInArchive/ }])
  // As if the directory had been there two days before the oldest segment that is left.
  const later = new Date(Date.now() + 2 * 86_400_000)
  await utimes(segment, later, later)
  t.same(await check(90), [], 'somebody removes')
  t.match(await check(96), [{ status: 'error' }], 'and not enough')
})
