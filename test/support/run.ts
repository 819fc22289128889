/**
 * What `npm test` runs after `setup.ts`: tap, with these arguments. What all of its processes share lives as long as the
 * run: a cache of compiled code, without which each `lifeboat` that a test starts is compiled anew, and, where root may
 * mount one and the memory is there, a file system in memory for all scratch directories. Making the thousand files of a
 * server costs five times as much on a disk, and no test asks whether a disk keeps what it was given.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { makeOwnedDirectory } from '../../src/demo/leftovers.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { mountMemory, scratchPrefix, unmount } from './scratch.ts'

/** Bytes that must be free for it, of which it takes half at most: the whole suite has used less than 2 GiB at once. */
const enoughMemory = 8 * 1024 ** 3

const directory = await makeOwnedDirectory(scratchPrefix)
const available = process.availableMemory()
const inMemory = userInfo().uid === 0 && available >= enoughMemory && (await mountMemory(directory, available / 2))
await chmod(directory, 0o1777)
// The servers' own OS user, who runs `lifeboat` for them, keeps a cache of its own in it.
const cache = join(directory, 'compiled')
await mkdir(cache)
await chmod(cache, 0o1777)

const child = spawn('tap', process.argv.slice(2), {
  stdio: 'inherit',
  env: { ...process.env, NODE_COMPILE_CACHE: cache, ...(inMemory ? { TMPDIR: directory } : {}) },
})
// A terminal tells the whole group; we stay to clear up.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
try {
  const [code] = await once(child, 'exit')
  process.exitCode = code ?? 1
} finally {
  await killOrphans(directory) // of a file that ran into its time limit
  if (inMemory) await unmount(directory)
  await rm(directory, { recursive: true, force: true, maxRetries: 3 })
}
