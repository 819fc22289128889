import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { appendOwned, makeOwnedDirectory, writeOwned } from '../../src/physical/owned-files.ts'
import { incompleteMarker, Places } from '../../src/physical/places.ts'
import { clearLeftovers, markRecovery, readMark, unpackFolder } from '../../src/physical/restore-mark.ts'
import { assertFree } from '../../src/physical/restore-places.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { wishParams } from '../support/restoring.ts'
import { noSmallDisk, openDirectory, smallDisk, unmount } from '../support/scratch.ts'

const runId = '0190d2e0-0000-7000-8000-000000000000'

t.test('what a restore has left, and others have put there since', async (t) => {
  const directory = await openDirectory(t)
  const [data, used, unused] = ['data', 'used', 'unused'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ]
  const folder = unpackFolder(data, runId)
  await Places.claim(data, [used, unused], { owner: null, folder })
  for (const [path, name] of [
    [data, 'PG_VERSION'],
    [used, 'PG_17_202406281'],
  ] as const)
    await writeFile(join(path, name), 'x')
  await mkdir(folder)
  const mark = await readMark(data)
  t.match(mark, { phase: 'files', runId, backupId: null, tablespaces: [used, unused] })
  if (mark === null) return

  // Another restore got the directory meanwhile, and is through.
  await runProgram({ program: 'rm', args: [join(unused, incompleteMarker)] })
  await writeFile(join(unused, 'precious'), 'x')
  await t.rejects(clearLeftovers(data, mark), { code: 'conflict', message: /holds something else/ })
  t.same(await readdir(unused), ['precious'])
  t.same((await readdir(used)).length, 2, 'nothing was removed')
  t.ok((await readdir(data)).includes(incompleteMarker))
  // It is under way.
  await writeFile(
    join(unused, incompleteMarker),
    (await readFile(join(used, incompleteMarker), 'utf8')).replace(data, '/b'),
  )
  await t.rejects(clearLeftovers(data, mark), { code: 'conflict' })

  await runProgram({ program: 'rm', args: ['-r', unused] })
  await clearLeftovers(data, mark)
  t.same((await readdir(directory)).toSorted(), ['data', 'used'])
  for (const path of [data, used]) t.same(await readdir(path), [])
  await markRecovery(data, { runId, backupId: 'b', tablespaces: [used], owner: null })
  t.match(await readMark(data), { phase: 'recovery', runId, backupId: 'b', tablespaces: [used] })
})

t.test('links that somebody has laid', async (t) => {
  const directory = await openDirectory(t)
  const [outside, file] = [join(directory, 'outside'), join(directory, 'outside', 'file')]
  await mkdir(outside)
  await writeFile(file, 'precious')
  for (const name of ['a', 'b']) await symlink(file, join(directory, name))
  await symlink(outside, join(directory, 'c'))
  await writeOwned(join(directory, 'a'), 'ours', null)
  t.equal(await readFile(join(directory, 'a'), 'utf8'), 'ours')
  await t.rejects(appendOwned(join(directory, 'b'), null), { code: 'ELOOP' })
  await t.rejects(makeOwnedDirectory(join(directory, 'c'), null), { code: 'conflict' })
  t.equal(await readFile(file, 'utf8'), 'precious')
})

t.test('files that cannot be written', async (t) => {
  const directory = await openDirectory(t)
  await mkdir(join(directory, 'folder', 'in it'), { recursive: true })
  await t.rejects(writeOwned(join(directory, 'folder'), 'x', null), { code: 'storage-failed', message: /folder/ })
  await writeFile(join(directory, 'file'), '')
  await t.rejects(makeOwnedDirectory(join(directory, 'file'), null), { code: 'conflict', message: /not a directory/ })
  await t.rejects(makeOwnedDirectory(join(directory, 'file', 'x'), null), { code: 'storage-failed' })
  const disk = await smallDisk(t, 64 * 1024)
  if (disk === null) return t.comment(noSmallDisk)
  const path = join(disk.directory, 'file')
  await writeOwned(path, 'before', null)
  await writeFile(join(disk.directory, 'other'), Buffer.alloc(1024 * 1024)).catch(() => {})
  await t.rejects(writeOwned(path, 'x'.repeat(8192), null), { code: 'disk-full', message: /file: no space left/ })
  t.equal(await readFile(path, 'utf8'), 'before')
})

t.test('paths that are not what they seem', async (t) => {
  for (const to of ['/srv/link/../archive', '/srv/./x', '/srv/..', '/srv/a\nb', 'srv'])
    t.throws(() => wishParams({ to }), { code: 'usage-invalid' }, to)
  for (const to of ['/srv/$a', '/srv/`id`', '/srv/"a"', '/srv/a\\b'])
    t.throws(() => wishParams({ to }), { code: 'usage-invalid', hint: /pg_ctl/ }, to)
  t.ok(wishParams({ to: "/srv/..a/b../it's 50%", tablespaces: [['/old', '/srv/a\\b "$c"']] }))
  t.throws(() => wishParams({ to: '/srv/a', tablespaces: [['/old', '/srv/../x']] }), { code: 'usage-invalid' })

  const directory = await openDirectory(t)
  const [archive, mounted] = [join(directory, 'archive'), join(directory, 'mounted')]
  for (const path of [archive, mounted]) await mkdir(path)
  const precious = [{ path: archive, what: 'the archive of the WAL' }]
  await assertFree(mounted, precious)
  await symlink(archive, join(directory, 'link'))
  for (const path of [
    archive,
    `${archive}/`,
    join(archive, 'new'),
    join(directory, 'link'),
    join(directory, 'link', 'new'),
    directory,
  ])
    await t.rejects(assertFree(path, precious), { code: 'usage-invalid', message: /the archive of the WAL/ }, path)
  const isMounted = await runProgram({ program: 'mount', args: ['--bind', archive, mounted] }).then(
    () => true,
    () => false,
  )
  if (!isMounted) return t.comment('needs root and the right to mount')
  t.teardown(() => unmount(mounted))
  for (const path of [mounted, join(mounted, 'new')])
    await t.rejects(assertFree(path, precious), { code: 'usage-invalid', message: /mount/ }, path)
})
