import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { identityOf } from '../../src/domain/external-file.ts'
import { lookAtFile } from '../../src/external/file-facts.ts'
import { finishRemovals, removeDump } from '../../src/external/remove-dump.ts'
import { scratchDirectory } from '../support/scratch.ts'

const name = 'app_backup_20260101_020000.sql.gz'

async function identityAt(path: string): Promise<string> {
  const facts = await lookAtFile(path)
  return facts === null ? '' : identityOf(facts)
}

t.test('the very file that was judged', async (t) => {
  const directory = await scratchDirectory(t)
  const path = join(directory, name)
  await writeFile(path, 'one')
  const identity = await identityAt(path)
  await removeDump(directory, name, identity)
  t.same(await readdir(directory), [])

  await writeFile(path, 'another')
  const changed = { code: 'conflict', message: /it is not what it was any more/ }
  await t.rejects(removeDump(directory, name, identity), changed)
  t.equal(await readFile(path, 'utf8'), 'another')
  await t.rejects(removeDump(directory, 'gone', identity), changed)

  const outside = join(await scratchDirectory(t), 'precious')
  await writeFile(outside, 'precious')
  const judged = await identityAt(path)
  await rename(path, join(directory, 'elsewhere'))
  await symlink(outside, path)
  await t.rejects(removeDump(directory, name, judged), changed)
  t.equal(await readFile(outside, 'utf8'), 'precious')
  t.same((await readdir(directory)).sort(), [name, 'elsewhere'].sort())
})

t.test('a dump in directory format', async (t) => {
  const directory = await scratchDirectory(t)
  const path = join(directory, 'app')
  const outside = join(await scratchDirectory(t), 'precious')
  await writeFile(outside, 'precious')
  await mkdir(path)
  for (const member of ['toc.dat', '3001.dat.gz']) await writeFile(join(path, member), 'x')
  await symlink(outside, join(path, 'link'))
  await removeDump(directory, 'app', await identityAt(path))
  t.same(await readdir(directory), [])
  t.equal(await readFile(outside, 'utf8'), 'precious', 'a link goes, not what it points to')

  await mkdir(join(path, 'deeper'), { recursive: true })
  await writeFile(join(path, 'toc.dat'), 'x')
  await writeFile(join(path, 'deeper', 'precious'), 'x')
  await t.rejects(removeDump(directory, 'app', await identityAt(path)), { code: 'storage-failed' })
  t.same((await readdir(path)).sort(), ['deeper', 'toc.dat'], 'all of it is in its place')
})

t.test('cut off: what was not looked at goes back, the rest goes', async (t) => {
  const directory = await scratchDirectory(t)
  const aside = join(directory, '.lifeboat-expiring')
  const doomed = join(directory, '.lifeboat-removing')
  await mkdir(join(doomed, '17'), { recursive: true })
  await writeFile(join(doomed, '17', '3001.dat'), 'x')
  await writeFile(join(doomed, '18'), 'x')
  await mkdir(join(aside, 'dump'), { recursive: true })
  await writeFile(join(aside, 'dump', 'toc.dat'), 'x')
  await writeFile(join(aside, name), 'x')
  t.same((await finishRemovals(directory)).toSorted(), [name, 'dump'].toSorted())
  t.same((await readdir(directory)).sort(), [name, 'dump'].sort())
  t.same(await finishRemovals(directory), [])

  await mkdir(aside)
  await writeFile(join(aside, name), 'older')
  await writeFile(join(directory, name), 'newer')
  await t.rejects(finishRemovals(directory), { code: 'storage-failed' }, 'never over anything')
  t.equal(await readFile(join(directory, name), 'utf8'), 'newer')
  t.equal(await readFile(join(aside, name), 'utf8'), 'older')
  t.same(await finishRemovals(join(directory, 'nowhere')), [])
})
