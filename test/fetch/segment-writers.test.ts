import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { SegmentWriters } from '../../src/fetch/segment-writers.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { segmentBytes } from '../support/wal.ts'
import { hashOf } from '../support/wal-objects.ts'
import { stamped, system } from '../support/wal-repository.ts'

const name = '000000010000000000000001'
const plain = stamped(segmentBytes(name))
const object = { name, systemIdentifier: system, hash: hashOf(plain) }
const stored = zstdCompressSync(plain)

t.test('segments are written by threads', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const path = (file: string) => join(directory, file)
  const writers = new SegmentWriters(1)
  t.teardown(() => writers.close())
  const sizes = await Promise.all(['a', 'b', 'c'].map((file) => writers.write(object, stored, path(file))))
  t.same(sizes, [plain.length, plain.length, plain.length], 'one after the other')
  for (const file of ['a', 'b', 'c']) t.ok((await readFile(path(file))).equals(plain))

  await t.rejects(writers.write({ ...object, hash: '000000000000' }, stored, path('d')), { code: 'wal-invalid' })
  await t.rejects(writers.write(object, stored, path('a')), { code: 'EEXIST' })
  t.equal(await writers.write(object, Buffer.from('no zstd at all'), path('e')), null, 'a stream tells what is wrong')

  const pending = writers.write(object, stored, path('f'))
  await writers.close()
  await t.rejects(pending, { code: 'storage-failed', message: /the thread that writes WAL ended/ })
  t.equal(await writers.write(object, stored, path('g')), plain.length, 'one that has gone is replaced')
})
