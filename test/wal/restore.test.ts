import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { makeArchive, segmentBytes } from '../support/wal.ts'

/** A segment of log 2; every one of these has 1 MiB. */
const segment = (number: number, timeline = 1) =>
  `${timeline.toString(16).padStart(8, '0')}00000002${number.toString(16).padStart(8, '0')}`.toUpperCase()

t.test('the end of the WAL, and holes in it', async (t) => {
  const archive = await makeArchive(t)
  const store = async (name: string, content: Buffer | string = segmentBytes(name)) =>
    t.match(await archive.archive(name, content), { code: 0 }, name)
  const isEnd = async (name: string, ...options: readonly string[]) =>
    t.same(await archive.restore(name, ...options), { code: 1, stderr: '', bytes: null }, `${name} is the end`)
  const isHole = async (name: string, why: RegExp, ...options: readonly string[]) =>
    t.match(await archive.restore(name, ...options), { code: 126, stderr: why, bytes: null }, `${name} is a hole`)

  await isEnd(segment(1)) // nothing is stored at all
  await isEnd('00000002.history')
  for (const number of [1, 2, 4]) await store(segment(number))
  await isEnd(segment(5))
  await isEnd(segment(5, 2))
  await isHole(segment(3), /is missing in .* hole: 000000010000000200000004 is there/)
  await isEnd(segment(3), '--missing-is-end')
  await isHole(segment(5), /this recovery goes to 000000020000000200000006/, '--end', segment(6, 2))
  await isEnd(segment(6), '--end', segment(6, 2))

  // Timeline 2 left timeline 1 in segment 5, timeline 4 left timeline 2 in segment 8.
  await store(`${segment(5)}.partial`)
  await store('00000002.history', '1\t2/5FFF28\tno recovery target specified\n')
  await store(segment(5, 2))
  await isEnd(segment(5))
  t.same((await archive.restore(segment(5))).bytes, null, 'a partial is not given for the whole')
  t.match(await archive.restore(`${segment(5)}.partial`), { code: 0 }, 'but to who asks for it')
  await rm(join(archive.directory, '..', 'restored', 'RECOVERYXLOG'))
  await store('00000004.history', '1\t2/5FFF28\tx\n\n2\t2/8FFF28\tno recovery target specified\n')
  await isHole(segment(6, 2), /00000004\.history tells that this timeline went on to 2\/8FFF28/)
  await isEnd(segment(8, 2))
  await isHole('00000003.history', /00000004\.history is there\. Name the timeline/)
  await isEnd('00000003.history', '--missing-is-end')
  await isEnd('00000005.history')
  await isEnd('00000001.history')
  await isEnd(`${segment(1)}.00000028.backup`)
})

t.test('what is stored but wrong is not given', async (t) => {
  const archive = await makeArchive(t)
  const name = segment(10)
  const bytes = segmentBytes(name, 1, 2)
  const flipped = Buffer.from(bytes)
  flipped.writeUInt8(7, 11)
  const wrong: [string, Buffer, RegExp][] = [
    [name, Buffer.alloc(0), /cut short/],
    [name, bytes.subarray(0, -1), /cut short/],
    [name, bytes.subarray(0, 1024 * 1024), /cut short/],
    [name, Buffer.alloc(2 * 1024 * 1024), /its header tells another/],
    [name, segmentBytes(segment(11), 1, 2), /is not this segment/],
    [name, flipped, /is not this segment/],
    ['00000002.history', Buffer.alloc(0), /is empty/],
  ]
  for (const [one, content, message] of wrong) {
    await writeFile(join(archive.directory, one), content, { mode: 0o644 })
    t.match(await archive.restore(one), { code: 126, stderr: message, bytes: null }, String(message))
  }
  await rm(join(archive.directory, name))
  await mkdir(join(archive.directory, name))
  t.match(await archive.restore(name), { code: 126, stderr: /no plain file/, bytes: null })
  t.same(await readdir(join(archive.base, 'restored')), [], 'nothing is left')
})

t.test('an archive that is not there is no end of the WAL', async (t) => {
  const archive = await makeArchive(t)
  for (const one of [segment(1), '00000002.history']) {
    await rename(archive.incoming, join(archive.base, 'aside'))
    t.match(await archive.restore(one), { code: 126, stderr: /is its disk mounted/ }, 'an empty mount point')
    await rename(join(archive.base, 'aside'), archive.incoming)
    await rename(archive.directory, join(archive.base, 'aside'))
    t.match(await archive.restore(one), { code: 126, stderr: /is its disk mounted/ })
    await rename(join(archive.base, 'aside'), archive.directory)
  }
  for (const one of ['', 'x', '../x', segment(1).replace('2', 'a')])
    t.match(await archive.restore(one), { code: 126, stderr: /no name of a WAL file/ }, JSON.stringify(one))
  for (const options of [['--end'], ['--end', 'x'], ['--nope'], ['--else']])
    t.equal((await archive.restore(segment(1), ...options)).code, 126, options.join(' '))
})

t.test('no room, and what an earlier run has left', async (t) => {
  const archive = await makeArchive(t)
  const name = segment(1)
  const bytes = segmentBytes(name)
  await archive.archive(name, bytes)
  const target = join(archive.base, 'restored')
  await writeFile(join(target, 'RECOVERYXLOG'), 'x')
  t.ok((await archive.restore(name)).bytes?.equals(bytes))
  t.same(await readdir(target), ['RECOVERYXLOG'])
  const disk = await smallDisk(t, 512 * 1024)
  if (disk === null) return t.pass(noSmallDisk)
  await rm(target, { recursive: true })
  await symlink(disk.directory, target)
  t.match(await archive.restore(name), { code: 126, stderr: /No space left/, bytes: null })
  t.same(await readdir(target), [])
})

t.test('what only a repository has', async (t) => {
  const archive = await makeArchive(t)
  const program = join(archive.programs, 'elsewhere')
  const answer = (status: number) =>
    writeFile(program, `#!/bin/sh\n[ "$1 $2" = "wal fetch" ] || exit 99\nprintf %s "$3" >"$4"\nexit ${status}\n`, {
      mode: 0o755,
    })
  const ask = () => archive.restore(segment(1), '--else', program)
  await answer(0)
  const { code, bytes } = await ask()
  t.same([code, bytes?.toString()], [0, segment(1)])
  await answer(44)
  t.match(await ask(), { code: 1, stderr: '' }, 'it is nowhere')
  for (const status of [1, 2, 126, 127, 255]) {
    await answer(status)
    t.match(await ask(), { code: 126, stderr: /could not tell/ }, `status ${status}`)
  }
  await rm(program)
  t.equal((await ask()).code, 126)
  const stored = segmentBytes(segment(1))
  await archive.archive(segment(1), stored)
  t.ok((await ask()).bytes?.equals(stored), 'what the directory has is not asked for')
  t.ok((await readFile(join(archive.directory, segment(1)))).equals(stored))
})
