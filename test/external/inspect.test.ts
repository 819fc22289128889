import {
  appendFile,
  cp,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { userInfo } from 'node:os'
import { basename, join } from 'node:path'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { type Inspection, isPlainComplete, tailBytes } from '../../src/domain/external.ts'
import { inspectDump } from '../../src/external/inspect.ts'
import { conninfo } from '../../src/postgres/conninfo.ts'
import { type Installation, programPath } from '../../src/postgres/installations.ts'
import { collectOutput, runProgram } from '../../src/postgres/programs.ts'
import { type ForeignDumps, makeForeignDumps } from '../support/dumps.ts'
import { installationOf, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { flipBit } from '../support/tamper.ts'
import { plainDump } from '../support/watch-only.ts'

const never = new AbortController().signal

for (const major of [15, 17] as const) {
  t.test(`every format of pg_dump ${major}`, async (t) => {
    const cluster = await startCluster(t, { major })
    await createSampleDatabase(cluster.source, { name: 'app', scale: 0.05 })
    const folder = await scratchDirectory(t)
    const dumps = await makeForeignDumps(cluster, 'app', folder)
    const installations = [cluster.installation]
    const inspect = (path: string) => inspectDump(path, { installations, signal: never })

    await t.test('a whole one is sound', async (t) => {
      const serverVersion = new RegExp(`^${major}\\.`)
      const expected: Record<keyof ForeignDumps, Partial<Inspection>> = {
        plain: { format: 'plain', compression: 'none' },
        plainGzip: { format: 'plain', compression: 'gzip' },
        plainZstd: { format: 'plain', compression: 'zstd' },
        custom: { format: 'custom', compression: 'none' },
        customGzip: { format: 'custom', compression: 'gzip' },
        tar: { format: 'tar', compression: 'none' },
        tarZstd: { format: 'tar', compression: 'zstd' },
        directory: { format: 'directory', compression: 'none' },
        everything: { format: 'plain', compression: 'none', isWholeCluster: true },
        everythingGzip: { format: 'plain', compression: 'gzip', isWholeCluster: true },
      }
      for (const [name, about] of Object.entries(expected)) {
        const found = await inspect(dumps[name as keyof ForeignDumps])
        t.match(found, { state: 'sound', detail: null, isWholeCluster: false, ...about }, name)
        t.ok(found.bytes > 0)
        // pg_dumpall names no server at its top.
        if (about.isWholeCluster !== true) t.match(found, { serverVersion, dumpVersion: serverVersion }, name)
      }
    })

    await t.test('cut off anywhere, it is not', async (t) => {
      for (const [name, path] of Object.entries(dumps)) {
        if (name === 'directory') continue
        const { size } = await stat(path)
        const copy = join(folder, `cut-${basename(path)}`)
        for (const length of [5, 300, size / 2, size - 1030, size - 200, size - 9, size - 3].map(Math.floor)) {
          await writeFile(copy, await readFile(path))
          await truncate(copy, length)
          const found = await inspect(copy)
          t.notMatch(
            found.state,
            /^(?:sound|unchecked)$/,
            `${name} with ${length} of ${size} bytes is ${found.state}: ${found.detail}`,
          )
          t.type(found.detail, 'string')
        }
        await rm(copy)
      }
    })

    await t.test('one bit of a checked stream flipped', async (t) => {
      for (const name of ['plainGzip', 'customGzip', 'everythingGzip', 'plainZstd', 'tarZstd'] as const) {
        await flipBit(dumps[name])
        const found = await inspect(dumps[name])
        t.match(found, { state: 'corrupt', detail: String }, name)
      }
    })

    await t.test('at any byte of its end', async (t) => {
      for (const [path, isWhole] of [
        [dumps.plain, false],
        [dumps.everything, true],
      ] as const) {
        const text = await readFile(path)
        const line = isWhole
          ? '-- PostgreSQL database cluster dump complete\n'
          : '-- PostgreSQL database dump complete\n'
        const needed = text.lastIndexOf(line) + line.length
        const wrong = []
        for (let length = text.length - 300; length <= text.length; length += 1) {
          const tail = text.subarray(Math.max(0, length - tailBytes), length)
          // After the closing line comments and the end of a restriction may be missing, but no word of either.
          const isWord = length < text.length && !text.subarray(0, length).toString('latin1').endsWith('\n')
          if (isPlainComplete(tail, isWhole) !== (length >= needed && !isWord)) wrong.push(length)
        }
        t.same(wrong, [], path)
      }
    })

    await t.test('a member of a directory that is cut off', async (t) => {
      const methods = [['gz'], ['raw', '-Z0'], ['inserts', '-Z0', '--inserts']]
      if (major === 17) methods.push(['zst', '--compress=zstd'], ['lz4', '--compress=lz4'])
      for (const [name = '', ...args] of methods) {
        const whole = join(folder, `members-${name}`)
        const program = programPath(cluster.installation, 'pg_dump')
        const target = `--dbname=${conninfo({ ...cluster.source, database: 'app' })}`
        await runProgram({ program, args: ['-Fd', ...args, `--file=${whole}`, target] })
        t.match(await inspect(whole), { state: 'sound', format: 'directory' }, name)
        const members = (await readdir(whole)).filter((member) => /^\d+\.dat/.test(member))
        for (const member of [members[0] ?? '', members.at(-1) ?? '']) {
          const { size } = await stat(join(whole, member))
          for (const length of [0, Math.floor(size / 2), size - 4]) {
            const copy = join(folder, 'members-cut')
            await cp(whole, copy, { recursive: true })
            await truncate(join(copy, member), length)
            const found = await inspect(copy)
            t.match(found, { state: 'truncated', detail: String }, `${member} of ${name}, ${length} of ${size} bytes`)
            await rm(copy, { recursive: true })
          }
        }
      }
    })

    await t.test('a directory without one of its files', async (t) => {
      const [member = ''] = (await readdir(dumps.directory)).filter((name) => name.endsWith('.dat.gz'))
      await rm(join(dumps.directory, member))
      t.match(await inspect(dumps.directory), { state: 'truncated', format: 'directory', detail: /No such file/ })
      await rm(join(dumps.directory, 'toc.dat'))
      t.match(await inspect(dumps.directory), { state: 'truncated', detail: /no toc\.dat/ })
    })

    if (major === 17) {
      await t.test('a client that is too old cannot tell, and says so', async (t) => {
        const old: Installation = await installationOf(15)
        const found = await inspectDump(dumps.custom, { installations: [old], signal: never })
        t.match(found, { state: 'unchecked', detail: /unsupported version .*install a newer/ })
        t.match(await inspectDump(dumps.custom, { installations: [], signal: never }), {
          state: 'unchecked',
          detail: /only pg_restore can read this format/,
        })
        t.match(await inspectDump(dumps.plain, { installations: [], signal: never }), { state: 'sound' })
      })
    }
  })
}

t.test('what is no dump', async (t) => {
  const folder = await scratchDirectory(t)
  const installations = [await installationOf(15)]
  const inspect = (path: string) => inspectDump(path, { installations, signal: never })
  const made = async (name: string, contents: string | Buffer) => {
    const path = join(folder, name)
    await writeFile(path, contents)
    return path
  }
  const title = '--\n-- PostgreSQL database dump\n--\n\n'
  const closing = '\n--\n-- PostgreSQL database dump complete\n--\n'

  t.match(await inspect(await made('empty.sql.gz', '')), { state: 'empty', bytes: 0 })
  const nothing = await made('nothing', '')
  await runProgram({ program: 'gzip', args: ['-k', nothing] })
  t.match(await inspect(`${nothing}.gz`), { state: 'empty', compression: 'gzip' })
  t.match(await inspect(await made('a.sql', 'pg_dump: error: connection failed')), { state: 'wrong-format', bytes: 33 })
  t.match(await inspect(await made('zeros.sql', Buffer.alloc(100_000))), { state: 'wrong-format', detail: /zeros/ })
  t.match(await inspect(join(folder, 'not there')), { state: 'unchecked', detail: /ENOENT/ })

  const words = 'in the data: -- PostgreSQL database dump complete'
  t.match(
    await inspect(await made('words.sql', `${title}${words}`)),
    { state: 'truncated' },
    'not at the start of a line',
  )
  t.match(await inspect(await made('after.sql', `${title}${closing}drop table a;\n`)), { state: 'truncated' })
  t.match(await inspect(await made('restrict.sql', `${title}${closing}\n\\unrestrict abc\n\n`)), { state: 'sound' })
  t.match(await inspect(await made('windows.sql', `${title}${closing}`.replaceAll('\n', '\r\n'))), { state: 'sound' })
  t.match(await inspect(await made('wrapped.sql', `-- nightly, by cron\n${title}${closing}-- done\n`)), {
    state: 'sound',
  })

  const hostile = await made('-rf "$(touch x)"\n\u001b[31m.sql', `${title}${closing}`)
  t.match(await inspect(hostile), { state: 'sound' })
  await runProgram({ program: 'gzip', args: ['-1', '--', hostile] })
  t.match(await inspect(`${hostile}.gz`), { state: 'sound', compression: 'gzip' })
  await appendFile(`${hostile}.gz`, 'garbage')
  t.match(await inspect(`${hostile}.gz`), { state: 'corrupt', detail: /garbage/ })

  const two = await made('two.sql.gz', '')
  const members = await Promise.all([title, closing].map(async (text, index) => made(`part${index}`, text)))
  for (const member of members) {
    await runProgram({ program: 'gzip', args: [member] })
    await appendFile(two, await readFile(`${member}.gz`))
  }
  t.match(await inspect(two), { state: 'sound' }, 'gzip members one after the other are one stream')

  await runProgram({ program: 'mkfifo', args: [join(folder, 'fifo')] })
  t.match(
    await inspect(join(folder, 'fifo')),
    { state: 'wrong-format', detail: /no regular file/ },
    'is not waited for',
  )
  await symlink('/etc/passwd', join(folder, 'link'))
  t.match(await inspect(join(folder, 'link')), { state: 'wrong-format', detail: /symbolic link/ })
  await mkdir(join(folder, 'folder'))
  t.match(await inspect(join(folder, 'folder')), { state: 'truncated', format: null })
  t.match(await inspect('/dev/zero'), { state: 'wrong-format', detail: /no regular file/ })
  for (const [kind, make] of Object.entries({
    fifo: (path: string) => runProgram({ program: 'mkfifo', args: [path] }),
    link: (path: string) => symlink('/etc/passwd', path),
  })) {
    const dump = join(folder, `with-${kind}`)
    await mkdir(dump)
    await writeFile(join(dump, 'toc.dat'), 'PGDMP')
    await make(join(dump, '1.dat'))
    t.match(
      await inspect(dump),
      { state: 'wrong-format', detail: /"1\.dat", no regular file/ },
      `${kind} is not opened`,
    )
  }

  const sound = await made('sound', plainDump(''))
  const packed: [RegExp, string, string[]][] = [
    [/it is xz/, 'xz', ['--stdout', sound]],
    [/it is bzip2/, 'bzip2', ['--stdout', sound]],
    [/it is lz4/, 'lz4', ['--stdout', sound]],
    [/it is a tar that pg_dump did not write/, 'tar', ['--create', '--file=-', '--directory', folder, 'sound']],
  ]
  for (const [detail, program, args] of packed) {
    const { stdout } = await collectOutput({ program, args })
    const path = await made(`a.${program}`, stdout)
    t.match(await inspect(path), { state: 'unchecked', detail }, program)
    await runProgram({ program: 'gzip', args: ['-1', path] })
    t.match(await inspect(`${path}.gz`), { state: 'unchecked', detail }, `${program} in gzip`)
  }
  const beginnings: [RegExp, string | number[]][] = [
    [/by age/, 'age-encryption.org/v1\n-> X25519 abc'],
    [/by age/, '-----BEGIN AGE ENCRYPTED FILE-----\n'],
    [/by openssl/, 'Salted__12345678'],
    [/by gpg/, '-----BEGIN PGP MESSAGE-----\n\n'],
    [/by gpg/, [0x85, 0x01, 0x0c, 0x03, 1, 2, 3]],
    [/by gpg/, [0x84, 0x5e, 0x03, 1, 2, 3]],
    [/by gpg/, [0x8c, 0x0d, 0x04, 0x09, 0x03, 0x08]],
  ]
  for (const [detail, bytes] of beginnings) {
    const path = await made('encrypted', Buffer.from(typeof bytes === 'string' ? Buffer.from(bytes) : bytes))
    t.match(await inspect(path), { state: 'unchecked', detail }, String(bytes))
  }
  // A frame that wants 2 GiB of memory (RFC 8878, 3.1.1.1.2), as `zstd --long=31` makes them, and an empty last block.
  const long = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0])
  t.match(await inspect(await made('long.sql.zst', long)), { state: 'unchecked', detail: /long=31/ })

  if (userInfo().uid !== 0) {
    const closed = await made('closed', title)
    const handle = await open(closed)
    await handle.chmod(0)
    await handle.close()
    t.match(await inspect(closed), { state: 'unchecked', detail: /EACCES/ })
  }
  await t.rejects(inspectDump(hostile, { installations, signal: AbortSignal.abort(new Error('enough')) }), /enough/)
})
