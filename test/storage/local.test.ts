import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { truncate } from 'node:fs/promises'
import { createServer } from 'node:net'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { getuid } from 'node:process'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { DigestStream } from '../../src/storage/digest.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { temporaryName } from '../../src/storage/temporary.ts'
import { codeOf, listed, storageContract } from '../contract/storage.ts'

const run = promisify(execFile)

await storageContract(t, 'LocalStorage', (t) => new LocalStorage({ root: t.testdir() }))

await t.test('a root that is not there yet, or is reached through a link', async (t) => {
  const base = t.testdir({ real: {} })
  const root = join(base, 'new')
  const storage = new LocalStorage({ root })
  t.notOk(await storage.exists())
  t.equal(await storage.head('a'), null)
  t.same(await listed(storage, ''), [])
  await storage.remove('a')
  t.equal(await storage.cleanTemporary(), 0)
  t.ok((await storage.capacity()).totalBytes > 0, 'the capacity is that of the file system it will be on')
  t.notOk(existsSync(root), 'reading makes nothing')
  await storage.put('a/b', Buffer.from('x'))
  t.ok(await storage.exists())
  t.equal(statSync(root).mode & 0o777, 0o700)
  t.equal(statSync(join(root, 'a')).mode & 0o777, 0o700)
  t.equal(statSync(join(root, 'a/b')).mode & 0o777, 0o600)

  symlinkSync(join(base, 'real'), join(base, 'link'))
  const linked = new LocalStorage({ root: join(base, 'link') })
  await linked.put('a', Buffer.from('x'))
  t.equal((await linked.head('a'))?.bytes, 1)
  t.ok(existsSync(join(base, 'real/a')))

  const unmounted = new LocalStorage({ root: join(base, 'mnt/disk/root') })
  await t.rejects(unmounted.put('a', Buffer.from('x')), {
    code: 'storage-failed',
    message: /there is no directory .*mnt\/disk$/,
    hint: /mount what belongs at .*mnt\/disk, or make it: mkdir -p/,
  })
  t.notOk(existsSync(join(base, 'mnt')), 'the directories above the root are not made')
  t.notOk(await new LocalStorage({ root: join(base, 'real/a') }).exists(), 'a file is no root')
})

await t.test('capacity', async (t) => {
  const { freeBytes, totalBytes } = await new LocalStorage({ root: t.testdir() }).capacity()
  const [total, free] =
    (await run('df', ['-B1', '--output=size,avail', t.testdirName])).stdout.split('\n')[1]?.trim().split(/ +/) ?? []
  t.equal(totalBytes, Number(total))
  t.ok(Math.abs(freeBytes - Number(free)) < 1e9, 'free as df says, give or take what others write meanwhile')
})

await t.test('half-written files', async (t) => {
  const root = t.testdir()
  const temporary = join(root, '.lifeboat-tmp')
  const storage = new LocalStorage({ root })
  const body = new Readable({ read: () => {} })
  body.push(Buffer.alloc(2_000_000))
  const putting = storage.put('slow', body)
  while (!existsSync(temporary) || readdirSync(temporary).length === 0) await new Promise(setImmediate)
  t.same(await listed(storage, ''), [], 'are not listed')
  t.same(await listed(storage, '.lifeboat'), [])
  t.same(await listed(storage, '.lifeboat-tmp/'), [])
  t.same(await listed(storage, '', { delimiter: '/' }), [])
  const [name] = readdirSync(temporary)
  for (const key of ['.lifeboat-tmp', `.lifeboat-tmp/${name}`]) {
    t.equal(await codeOf(storage.get(key)), 'usage-invalid')
    t.equal(await codeOf(storage.head(key)), 'usage-invalid')
    t.equal(await codeOf(storage.remove(key)), 'usage-invalid')
    t.equal(await codeOf(storage.put(key, Buffer.from('x'))), 'usage-invalid')
  }
  t.equal(statSync(join(temporary, name ?? '')).mode & 0o777, 0o600)
  t.equal(await new LocalStorage({ root }).cleanTemporary(), 0, 'of a live process stay')

  const mine = await temporaryName()
  const [, space, pid, start] = mine.split('-')
  const [bootId, namespace] = [
    readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'),
    readlinkSync('/proc/self/ns/pid'),
  ]
  const words = `${hostname()} ${namespace} ${bootId}`
  t.equal(
    space,
    createHash('sha256').update(words).digest('hex').slice(0, 8),
    'a machine of the same name is another one',
  )
  const dead = spawnSync('true').pid
  const leave = (file: string): void => writeFileSync(join(temporary, file), 'half')
  leave(`put-${space}-${dead}-1-aaaaaaaaaaaa`)
  leave(`put-${space}-${pid}-${Number(start) + 1}-bbbbbbbbbbbb`)
  leave('put-00000000-1-1-cccccccccccc')
  leave('foreign.txt')
  t.equal(await storage.cleanTemporary(), 2, 'of a dead process go, also if its id was given to another')
  t.same(new Set(readdirSync(temporary)), new Set(['foreign.txt', name, 'put-00000000-1-1-cccccccccccc']))
  const tomorrow = { ...systemClock, now: () => new Date(Date.now() + 25 * 3600 * 1000) }
  utimesSync(join(temporary, 'foreign.txt'), 0, 0)
  body.push(null)
  await putting
  const late = new LocalStorage({ root, clock: tomorrow })
  t.equal(await late.cleanTemporary({ elsewhere: false }), 0, 'of another host stay for who does not write here')
  t.equal(await late.cleanTemporary(), 1, 'of another host go after a day')
  t.same(readdirSync(temporary), ['foreign.txt'], 'what is not ours stays')
})

await t.test('what a program writes by itself', async (t) => {
  const root = t.testdir()
  const storage = new LocalStorage({ root })
  const directory = await storage.staging.make()
  writeFileSync(join(directory, 'file'), 'content', { mode: 0o644 })
  t.same(await listed(storage, ''), [], 'it is no object yet')
  const info = await storage.staging.adopt('a/b', join(directory, 'file'))
  t.match(info, { key: 'a/b', bytes: 7 })
  t.same(await storage.head('a/b'), info)
  t.equal(statSync(join(root, 'a/b')).mode & 0o777, 0o600)
  t.same(readdirSync(directory), [], 'it was moved')
  writeFileSync(join(directory, 'other'), 'x')
  const again = storage.staging.adopt('a/b', join(directory, 'other'), { ifAbsent: true })
  t.equal(await codeOf(again), 'object-exists')
  t.same(readdirSync(directory), ['other'])
  symlinkSync(join(directory, 'other'), join(directory, 'link'))
  t.equal(await codeOf(storage.staging.adopt('c', join(directory, 'link'))), 'storage-failed')
  t.equal(await codeOf(storage.staging.adopt('../c', join(directory, 'other'))), 'usage-invalid')
  const stop = { signal: AbortSignal.abort() }
  t.equal(await codeOf(storage.staging.adopt('c', join(directory, 'other'), stop)), 'cancelled')
  t.same(await listed(storage, ''), ['a/b'])

  t.equal(await storage.cleanTemporary(), 0, 'of a live process it stays')
  const [, space] = basename(directory).split('-')
  const left = join(root, '.lifeboat-tmp', `put-${space}-${spawnSync('true').pid}-1-aaaaaaaaaaaa`)
  renameSync(directory, left)
  t.equal(await storage.cleanTemporary(), 1, 'of a dead one it goes, with all that is in it')
  t.notOk(existsSync(left))

  const far = join(root, '.lifeboat-tmp', 'put-00000000-1-1-cccccccccccc')
  mkdirSync(far)
  writeFileSync(join(far, 'file'), 'x')
  utimesSync(far, 0, 0)
  const late = (hours: number) => ({ ...systemClock, now: () => new Date(Date.now() + hours * 3_600_000) })
  t.equal(await new LocalStorage({ root, clock: late(1) }).cleanTemporary(), 0, 'another host writes to it')
  t.equal(await new LocalStorage({ root, clock: late(25) }).cleanTemporary(), 1)
})

await t.test('links below the root are not followed', async (t) => {
  const base = t.testdir({ outside: { secret: 'secret' }, root: { real: { file: 'x' } } })
  const root = join(base, 'root')
  const outside = join(base, 'outside')
  symlinkSync(outside, join(root, 'folder'))
  symlinkSync(join(outside, 'secret'), join(root, 'real/object'))
  symlinkSync('real', join(root, 'inward'))
  symlinkSync('loop', join(root, 'loop'))
  symlinkSync(join(outside, 'none'), join(root, 'dangling'))
  const storage = new LocalStorage({ root })
  for (const key of ['folder/secret', 'real/object', 'inward/file', 'loop/a', 'loop', 'dangling']) {
    t.equal(await codeOf(storage.get(key)), 'storage-failed', `get ${key}`)
    t.equal(await codeOf(storage.head(key)), 'storage-failed', `head ${key}`)
  }
  for (const key of ['folder/secret', 'folder/new', 'folder/sub/new', 'inward/new', 'dangling/new', 'loop/new']) {
    t.equal(await codeOf(storage.put(key, Buffer.from('x'))), 'storage-failed', `put ${key}`)
    t.equal(
      await codeOf(storage.put(key, Buffer.from('x'), { ifAbsent: true })),
      'storage-failed',
      `put ${key} if absent`,
    )
  }
  t.equal(await codeOf(storage.remove('folder/secret')), 'storage-failed')
  t.equal(await codeOf(storage.remove('inward/file')), 'storage-failed')
  t.equal(await codeOf(listed(storage, 'folder/')), 'storage-failed')
  t.same(await listed(storage, ''), ['real/file'])
  t.same(await listed(storage, '', { delimiter: '/' }), ['real/'])
  t.equal(await codeOf(storage.put('real/object', Buffer.from('x'), { ifAbsent: true })), 'object-exists')
  await storage.put('real/object', Buffer.from('mine'))
  await storage.remove('folder')
  t.same(readdirSync(outside), ['secret'])
  t.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret', 'nothing outside was touched')
  t.equal((await storage.head('real/object'))?.bytes, 4, 'a link in the place of an object is replaced, not followed')

  const hijacked = t.testdir({ outside: {}, root: {} })
  symlinkSync(join(hijacked, 'outside'), join(hijacked, 'root/.lifeboat-tmp'))
  t.equal(await codeOf(new LocalStorage({ root: join(hijacked, 'root') }).put('a', Buffer.from('x'))), 'storage-failed')
  t.same(readdirSync(join(hijacked, 'outside')), [])
})

await t.test('a large object is written as it comes', async (t) => {
  const root = t.testdir()
  const storage = new LocalStorage({ root })
  const temporary = join(root, '.lifeboat-tmp')
  const chunk = Buffer.alloc(65_536, 'lifeboat')
  const chunks = 1600
  let ahead = 0
  const source = function* (): Generator<Buffer> {
    for (let count = 0; count < chunks; count++) {
      const [name] = existsSync(temporary) ? readdirSync(temporary) : []
      if (name) ahead = Math.max(ahead, count * chunk.length - statSync(join(temporary, name)).size)
      yield chunk
    }
  }
  const expected = createHash('sha256')
  for (let count = 0; count < chunks; count++) expected.update(chunk)
  const info = await storage.put('large', Readable.from(source()))
  t.equal(info.bytes, chunks * chunk.length)
  t.ok(ahead < 4 * 1024 * 1024, 'the source waits for the disk')
  const digest = new DigestStream()
  await pipeline((await storage.get('large')).body, digest, async (bytes) => {
    for await (const _ of bytes);
  })
  t.same(digest.digest(), { bytes: info.bytes, sha256: expected.digest('hex') })
})

await t.test('what is not a file is not an object', { timeout: 20_000 }, async (t) => {
  const root = t.testdir({ folder: { empty: {} }, file: 'x' })
  await run('mkfifo', [join(root, 'pipe')])
  await run('cp', ['/bin/true', join(root, 'back\\slash')])
  const server = createServer().listen(join(root, 'socket'))
  t.teardown(() => server.close())
  const storage = new LocalStorage({ root })
  for (const key of ['folder', 'pipe', 'socket', 'file/below', 'x'.repeat(300)]) {
    t.equal(await codeOf(storage.get(key)), 'object-missing', key)
    t.equal(await storage.head(key), null)
    await storage.remove(key)
  }
  t.same(await listed(storage, ''), ['file'], 'nor does it show in a listing')
  t.same(await listed(storage, 'folder/'), [], 'nor below a folder that holds none')
  t.equal(await codeOf(storage.put('folder', Buffer.from('x'))), 'storage-failed')
  t.equal(await codeOf(storage.put('file/below', Buffer.from('x'))), 'storage-failed')
  t.equal(await codeOf(storage.put('x'.repeat(300), Buffer.from('x'))), 'storage-failed')
  t.same(readdirSync(join(root, '.lifeboat-tmp')), [], 'nothing half-written is left')
})

await t.test('very many files are compared at once, none of them opened', async (t) => {
  const root = t.testdir({
    a: { whole: 'whole', short: 'sho', folder: {}, link: t.fixture('symlink', 'whole') },
    b: { whole: 'x' },
  })
  const { files } = new LocalStorage({ root })
  const expected = { folder: 'a/', names: ['whole', 'short', 'folder', 'link', 'gone'], bytes: [5, 5, 5, 5, 5] }
  const found = [
    { folder: 'a/', name: 'short', is: 3 },
    { folder: 'a/', name: 'folder', is: 'no-file' },
    { folder: 'a/', name: 'link', is: 'no-file' },
    { folder: 'a/', name: 'gone', is: 'missing' },
  ]
  t.same(await files.compare([expected, { folder: 'b/', names: ['whole'], bytes: [1] }]), found)
  t.same(await files.compare([]), [])
  t.same(await files.compare([{ folder: 'none/at/all/', names: ['x'], bytes: [0] }]), [
    { folder: 'none/at/all/', name: 'x', is: 'missing' },
  ])
  await t.rejects(files.compare([{ folder: '../', names: ['x'], bytes: [0] }]), { code: 'usage-invalid' })
  await t.rejects(files.compare([{ folder: 'a/', names: ['../b/whole'], bytes: [0] }]), { code: 'usage-invalid' })
  await t.rejects(files.compare([expected], { signal: AbortSignal.abort() }), { code: 'cancelled' })
  const nowhere = new LocalStorage({ root: `${root}/nowhere` }).files
  t.match(await nowhere.compare([expected]), Array(5).fill({ is: 'missing' }))
})

await t.test('the version tells that bytes were altered in place', async (t) => {
  const root = t.testdir()
  const storage = new LocalStorage({ root })
  const { version } = await storage.put('a', Buffer.from('good'))
  const path = join(root, 'a')
  const { atime, mtime } = statSync(path)
  // Until the clock of the file system has moved on, ctime cannot tell.
  do {
    writeFileSync(path, 'evil')
    utimesSync(path, atime, mtime)
  } while ((await storage.head('a'))?.version === version)
  t.equal(statSync(path).mtime.getTime(), mtime.getTime(), 'although size and mtime are as before')
})

await t.test('a file that becomes shorter while it is read fails the stream', async (t) => {
  const root = t.testdir()
  const storage = new LocalStorage({ root })
  await storage.put('a', Buffer.alloc(5_000_000))
  const { body: stream } = await storage.get('a')
  await truncate(join(root, 'a'), 1_000_000)
  t.equal(await codeOf(buffer(stream)), 'storage-failed')
  const { body: given } = await storage.get('a')
  given.destroy()
  await new Promise((resolve) => given.once('close', resolve))
  t.ok(given.closed, 'a stream that nobody wants any more closes its file')
})

await t.test(
  'a folder that cannot be read fails the listing',
  { skip: getuid?.() === 0 ? 'root reads everything' : false },
  async (t) => {
    const root = t.testdir({ a: { b: 'x' } })
    await run('chmod', ['000', join(root, 'a')])
    t.teardown(() => run('chmod', ['700', join(root, 'a')]))
    t.equal(await codeOf(listed(new LocalStorage({ root }), '')), 'storage-failed')
  },
)

/** Mounts a file system of four megabytes and a few files; or says why that cannot be done. */
async function mountSmallDisk(root: string): Promise<string | false> {
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m,nr_inodes=64', 'tmpfs', root])
    return false
  } catch (error) {
    return `a small file system cannot be mounted here: ${String(error)}`
  }
}

const disk = t.testdir({ small: {} })
const skip = await mountSmallDisk(join(disk, 'small'))

await t.test('a full disk', { skip }, async (t) => {
  const root = join(disk, 'small')
  t.teardown(() => run('umount', [root]))
  const storage = new LocalStorage({ root })
  await storage.put('kept', Buffer.alloc(1_000_000, 7))
  for (const key of ['kept', 'new/one']) {
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(65_536)
      })(),
    )
    const failure = await storage.put(key, endless).catch((error: unknown) => error)
    t.match(failure, { code: 'disk-full', hint: /free space/, cause: { code: 'ENOSPC' } })
    t.ok(endless.destroyed, 'the source is told')
  }
  t.equal(await codeOf(storage.put('new/two', Buffer.alloc(5_000_000))), 'disk-full')
  t.same(readdirSync(join(root, '.lifeboat-tmp')), [], 'what was written is given back')
  t.equal((await buffer((await storage.get('kept')).body)).filter((byte) => byte === 7).length, 1_000_000)
  t.same(await listed(storage, ''), ['kept'])
  const full = async (): Promise<void> => {
    for (let index = 0; index < 100; index++) await storage.put(`many/${index}`, Buffer.from('x'))
  }
  t.equal(await codeOf(full()), 'disk-full', 'no inodes left is a full disk too')
})

await t.test('what root writes belongs to who owns the repository', async (t) => {
  if (getuid?.() !== 0) return t.pass('only root can give files away')
  const root = t.testdir()
  const nobody = 65_534
  chownSync(root, nobody, nobody)
  const storage = new LocalStorage({ root })
  await storage.put('a/b/c', Buffer.from('x'))
  await storage.put('a/b/d', Buffer.from('x'), { ifAbsent: true })
  const staged = join(await storage.staging.make(), 'file')
  writeFileSync(staged, 'x')
  await storage.staging.adopt('a/e', staged)
  for (const name of ['.lifeboat-tmp', 'a', 'a/b', 'a/b/c', 'a/b/d', 'a/e'])
    t.match(statSync(join(root, name)), { uid: nobody, gid: nobody }, name)
})
