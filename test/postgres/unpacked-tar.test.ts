import { createHash } from 'node:crypto'
import { chmodSync, openSync, renameSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import t, { type Test } from 'tap'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type ProgramOptions, runProgram } from '../../src/postgres/programs.ts'
import { chooseTools, type UnpackOptions, unpackTar } from '../../src/postgres/unpacked-tar.ts'
import { FileStream } from '../../src/storage/file-stream.ts'
import { openDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'
import { withoutBsdtar } from '../support/without-bsdtar.ts'

const { signal } = new AbortController()

/** An archive of one file that does not compress, and what unpacks it. */
async function archive(t: Test, { bytes = 3_000_000 } = {}) {
  const folder = await openDirectory(t)
  const [directory, path] = [join(folder, 'out'), join(folder, 'a.tar.zst')]
  await mkdir(directory)
  const packed = async (byte: number, name = path) => {
    await mkdir(join(folder, `from-${byte}`))
    // Stored as it is: two archives are equally long.
    await writeFile(join(folder, `from-${byte}`, 'file'), noise(byte, bytes))
    const tar = join(folder, `${byte}.tar`)
    await runProgram({ program: 'tar', args: ['-c', '-f', tar, '-C', join(folder, `from-${byte}`), 'file'] })
    await runProgram({ program: 'zstd', args: ['-q', '-f', tar, '-o', name] })
    return readFile(name)
  }
  const stored = await packed(1)
  const sha256 = createHash('sha256').update(stored).digest('hex')
  const opened = () => new FileStream(openSync(path, 'r'), { key: 'a', start: 0, bytes: stored.length })
  const unpack = async ({ source = opened(), ...more }: Partial<UnpackOptions> & { source?: FileStream } = {}) => {
    const descriptor = source.whole
    const how = { directory, exclude: [], owner: null, fifo: join(folder, 'fifo'), env: {}, decrypt: null, signal }
    return unpackTar({ source, descriptor, tools: await chooseTools(signal), ...how, ...more })
  }
  return { folder, directory, path, packed, stored, sha256, opened, unpack }
}

function noise(seed: number, bytes: number): Buffer {
  const blocks: Buffer[] = []
  for (let index = 0; index * 64 < bytes; index += 1)
    blocks.push(createHash('sha512').update(`${seed} ${index}`).digest())
  return Buffer.concat(blocks).subarray(0, bytes)
}

/** Hands on what it reads once there is a file `go`: who hashes is long through then. */
function late(folder: string): ProgramOptions {
  const script = `: >"$1/waits"; until [ -e "$1/go" ]; do sleep 0.02; done; exec cat`
  return { program: 'sh', args: ['-c', script, 'late', folder] }
}

for (const unpacker of ['bsdtar', 'tar'] as const)
  t.test(`a file that changes while two programs read it, with ${unpacker}`, { timeout: 60_000 }, async (t) => {
    if (unpacker === 'tar') await withoutBsdtar(t)
    t.equal((await chooseTools(signal)).unpacker, unpacker)
    const cases: readonly {
      readonly name: string
      readonly change: (one: Awaited<ReturnType<typeof archive>>) => Promise<void>
      readonly code: string | null
    }[] = [
      { name: 'nothing', change: async () => {}, code: null },
      { name: 'cut short', change: ({ path }) => truncate(path, 100_000), code: 'program-failed' },
      {
        name: 'another one in its bytes',
        change: async ({ path, packed, stored, folder }) => {
          const other = await packed(2, join(folder, 'other'))
          t.equal(other.length, stored.length)
          await writeFile(path, other, { flag: 'r+' })
        },
        code: 'storage-failed',
      },
      {
        name: 'another one under its name',
        change: async ({ path, packed, folder }) => {
          await packed(2, join(folder, 'other'))
          renameSync(join(folder, 'other'), path)
        },
        code: null,
      },
    ]
    for (const { name, change, code } of cases) {
      const one = await archive(t)
      const run = one.unpack({ decrypt: late(one.folder) })
      run.catch(() => {})
      await untilAnswer('it reads', async () => (await readdir(one.folder)).includes('waits'))
      await change(one)
      await writeFile(join(one.folder, 'go'), '')
      if (code !== null) await t.rejects(run, { code }, name)
      else {
        t.equal(await run, one.sha256, name)
        t.ok((await readFile(join(one.directory, 'file'))).equals(noise(1, 3_000_000)), 'it is the one that was opened')
      }
    }
  })

t.test('cancelled before it has begun', { timeout: 20_000 }, async (t) => {
  const { unpack, directory } = await archive(t)
  const cancel = new AbortController()
  cancel.abort(new Error('cancelled by the test'))
  await t.rejects(unpack({ signal: cancel.signal, tools: await chooseTools(signal) }), {
    message: 'cancelled by the test',
  })
  t.same(await readdir(directory), [])
})

t.test('an open file that cannot be opened again', { timeout: 20_000 }, async (t) => {
  if (userInfo().uid !== 0) return t.comment('only root can become somebody else')
  const user = await serverOsUser('postgres')
  const { opened, unpack, path, folder, directory, sha256 } = await archive(t)
  for (const one of [folder, directory]) await chown(one, user?.uid ?? 0, user?.gid ?? 0)
  chmodSync(path, 0o600)
  const tools = await chooseTools(signal)
  const source = opened()
  process.seteuid?.(user?.uid ?? 0)
  try {
    t.throws(() => openSync(`/proc/self/fd/${source.whole}`, 'r'), { code: 'EACCES' })
    t.equal(await unpack({ source, tools }), sha256)
  } finally {
    process.seteuid?.(0)
  }
  t.same(await readdir(directory), ['file'])
})
