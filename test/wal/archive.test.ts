import { chmod, link, mkdir, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { killingPrograms, makeArchive, segmentBytes } from '../support/wal.ts'

const name = '00000001000000020000000A'

t.test('what PostgreSQL archives is stored as it is', async (t) => {
  const archive = await makeArchive(t)
  const files: [string, Buffer | string][] = [
    [name, segmentBytes(name)],
    ['00000001000000020000000B', segmentBytes('00000001000000020000000B', 2, 16)],
    ['0000000100000002000003FF.partial', segmentBytes('0000000100000002000003FF', 3)],
    ['00000002.history', '1\t2/FF00000\tno recovery target specified\n'],
    [`${name}.00000028.backup`, 'START WAL LOCATION: 2/A000028\n'],
  ]
  for (const [one, bytes] of files) {
    t.match(await archive.archive(one, bytes), { code: 0, stderr: '' }, one)
    t.ok((await readFile(join(archive.directory, one))).equals(Buffer.from(bytes)), one)
    t.equal((await stat(join(archive.directory, one))).mode & 0o777, 0o640)
    const { code, bytes: restored } = await archive.restore(one)
    t.equal(code, 0)
    t.ok(restored?.equals(Buffer.from(bytes)), `${one} comes back`)
  }
  t.same(await readdir(archive.incoming), [])
  t.equal((await archive.stored()).length, files.length)
})

t.test('what is there already is accepted when it is the same, and never replaced', async (t) => {
  const archive = await makeArchive(t)
  const bytes = segmentBytes(name)
  await archive.archive(name, bytes)
  t.match(await archive.archive(name, bytes), { code: 0, stderr: '' }, 'the same again')

  const other = Buffer.from(bytes)
  other.writeUInt8(9, bytes.length - 1)
  const refused = await archive.archive(name, other)
  t.match(refused, { code: 1, stderr: /^lifeboat-archive: 00000001.*A: .* already with other bytes: it is left/ })
  t.equal(refused.stderr.split('\n').length, 1, 'one line in the log')
  t.ok((await readFile(join(archive.directory, name))).equals(bytes))

  const next = '00000001000000020000000B'
  await writeFile(join(archive.directory, next), bytes.subarray(0, 4096)) // torn, by a tool that is not this one
  t.match(await archive.archive(next, segmentBytes(next)), { code: 1, stderr: /with other bytes/ })

  const history = '00000002.history'
  await archive.archive(history, '1\t2/A000000\ta\n')
  t.match(await archive.archive(history, '1\t2/B000000\tb\n'), { code: 1, stderr: /with other bytes/ }, 'two forks')
  t.same(await readdir(archive.incoming), [])
})

t.test('what is in the way is neither followed nor replaced', async (t) => {
  const archive = await makeArchive(t)
  const final = join(archive.directory, name)
  const elsewhere = join(archive.base, 'elsewhere')
  const bytes = segmentBytes(name)
  for (const make of [() => symlink(elsewhere, final), () => mkdir(final)]) {
    await make()
    t.match(await archive.archive(name, bytes), { code: 1, stderr: /is no plain file: it is left as it is/ })
    await rm(final, { recursive: true })
  }
  await writeFile(elsewhere, bytes)
  await symlink(elsewhere, final)
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /no plain file/ }, 'not even to the same bytes')
  t.same(await readdir(archive.incoming), [])
})

t.test('a file that cannot be right is refused', async (t) => {
  const archive = await makeArchive(t)
  const bytes = segmentBytes(name, 1, 2)
  const wrong: [string, Buffer, RegExp][] = [
    [name, Buffer.alloc(0), /not a whole segment/],
    [name, bytes.subarray(0, bytes.length - 1), /not a whole segment: 1 MiB and a rest/],
    [name, Buffer.concat([bytes, bytes.subarray(0, 1024 * 1024)]), /not a whole segment: 3 MiB/],
    [name, bytes.subarray(0, 1024 * 1024), /cut short/],
    [name, Buffer.alloc(1024 * 1024), /cut short: its header tells another/],
    ['00000001000000020000000B', bytes, /is not this segment/],
    [`${name}.partial`, bytes.subarray(0, 1024 * 1024), /cut short/],
    ['00000002.history', Buffer.alloc(0), /is empty/],
  ]
  for (const [one, content, message] of wrong)
    t.match(await archive.archive(one, content), { code: 1, stderr: message }, String(message))
  for (const one of ['', '../x', 'x', name.toLowerCase(), `${name}.tmp`, `${name}\n`, '.incoming', '1.history', '*'])
    t.match(await archive.archive(one, bytes), { code: 1, stderr: /no name of a WAL file/ }, JSON.stringify(one))
  t.same(await archive.stored(), [])
  t.same(await readdir(archive.incoming), [])
})

t.test('directories that cannot be used', async (t) => {
  const archive = await makeArchive(t)
  const bytes = segmentBytes(name)
  await chmod(archive.incoming, 0o555)
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /\.incoming cannot be written to/ })
  await chmod(archive.incoming, 0o755)
  await chmod(archive.directory, 0o555)
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /Permission denied/ })
  await chmod(archive.directory, 0o755)
  t.same(await readdir(archive.incoming), [], 'and nothing is left')
  await rm(archive.incoming, { recursive: true })
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /is the disk mounted\?/ }, 'an empty mount point')
  await symlink(archive.base, archive.incoming)
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /is the disk mounted\?/ })
  await rm(archive.directory, { recursive: true })
  t.match(await archive.archive(name, bytes), { code: 1, stderr: /directory .* is missing/ })
  t.notOk(await stat(archive.directory).catch(() => null), 'it is not made')
})

t.test('a full disk', async (t) => {
  const disk = await smallDisk(t, 2.5 * 1024 * 1024)
  if (disk === null) return t.pass(noSmallDisk)
  const archive = await makeArchive(t, join(disk.directory, 'archive'))
  const names = ['A', 'B', 'C'].map((digit) => `00000001000000020000000${digit}`)
  const [first = '', second = '', third = ''] = names
  for (const one of [first, second]) t.match(await archive.archive(one, segmentBytes(one)), { code: 0 })
  t.match(await archive.archive(third, segmentBytes(third)), { code: 1, stderr: /No space left on device/ })
  t.same(await archive.stored(), [first, second])
  t.same(await readdir(archive.incoming), [], 'it makes room for others')
  await disk.resize(8 * 1024 * 1024)
  t.match(await archive.archive(third, segmentBytes(third)), { code: 0 }, 'tried again')
})

t.test('killed at any instant', async (t) => {
  const archive = await makeArchive(t)
  const bytes = segmentBytes(name)
  const hooks = await killingPrograms(archive)
  const instants = ['dd', 'od', 'link', 'unlink', 'sync'].flatMap((one) => [`before ${one}`, `after ${one}`])
  for (const instant of [...instants, 'amid dd']) {
    await rm(join(archive.directory, name), { force: true })
    const killed = await archive.archive(name, bytes, { PATH: hooks, KILL_AT: instant })
    t.equal(killed.signal, 'SIGKILL', instant)
    const stored = await readFile(join(archive.directory, name)).catch(() => null)
    t.ok(stored === null || stored.equals(bytes), `${instant}: whole or not there`)
    t.match(await archive.archive(name, bytes), { code: 0, stderr: '' }, `${instant}: tried again`)
    t.ok((await readFile(join(archive.directory, name))).equals(bytes), `${instant}: stored`)
    t.same(await archive.stored(), [name], `${instant}: once`)
  }
  const left = await readdir(archive.incoming)
  t.ok(left.length >= 5, 'what killed runs leave stays: it could be of one that lives')
  for (const one of left) await utimes(join(archive.incoming, one), new Date(), new Date(Date.now() - 11 * 60_000))
  const next = '00000001000000020000000B'
  t.match(await archive.archive(next, segmentBytes(next)), { code: 0 })
  t.same(await readdir(archive.incoming), [], 'ten minutes later it goes')
})

t.test('two servers, or a slow run and a new one, at the same time', async (t) => {
  const archive = await makeArchive(t)
  const bytes = segmentBytes(name)
  const same = await Promise.all(Array.from({ length: 6 }, () => archive.archive(name, bytes)))
  t.same(
    same.map(({ code }) => code),
    [0, 0, 0, 0, 0, 0],
  )
  t.ok((await readFile(join(archive.directory, name))).equals(bytes))
  t.same(await readdir(archive.incoming), [])
})

t.test('a file system without hard links, or one that is full of names, is told of', async (t) => {
  const archive = await makeArchive(t)
  await link(join(archive.programs, 'lifeboat-archive'), join(archive.base, 'other')) // here it can
  const hooks = await killingPrograms(archive)
  await writeFile(join(archive.base, 'hooks', 'link'), '#!/bin/sh\necho "link: not supported" >&2; exit 1\n')
  t.match(await archive.archive(name, segmentBytes(name), { PATH: hooks, KILL_AT: '' }), {
    code: 1,
    stderr: /link: not supported/,
  })
  t.same(await archive.stored(), [])
  t.same(await readdir(archive.incoming), [])
})
