import { chmod, rm } from 'node:fs/promises'
import { userInfo } from 'node:os'
import type { Test } from 'tap'
import { makeOwnedDirectory } from '../../src/demo/leftovers.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { runProgram } from '../../src/postgres/programs.ts'

/** Every directory of the tests has it; the next `npm test` removes those of killed ones. */
export const scratchPrefix = 'lifeboat-test-'

/**
 * A directory for one test, which other OS users may enter (the server's, when root runs the tests). `t.testdir()` is no
 * place for servers: a checkout under /root is closed to them, and deep paths do not fit a socket's address.
 */
export async function scratchDirectory(t: Test): Promise<string> {
  const directory = await makeOwnedDirectory(scratchPrefix)
  await chmod(directory, 0o711)
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }))
  return directory
}

/** Where every OS user may write: what a dump leaves there shows how far it came. */
export async function openDirectory(t: Test): Promise<string> {
  const directory = await scratchDirectory(t)
  await chmod(directory, 0o1777)
  return directory
}

/** A full disk within reach: a directory with a file system of its own. */
export interface SmallDisk {
  readonly directory: string
  /** Changes its size while it is in use. */
  resize(bytes: number): Promise<void>
}

/**
 * Mounts a tmpfs of the given size; null where that is not allowed (no root, no CAP_SYS_ADMIN). Skip with `noSmallDisk`.
 * Other OS users may write to it.
 */
export async function smallDisk(t: Test, bytes: number): Promise<SmallDisk | null> {
  if (userInfo().uid !== 0) return null
  const directory = await makeOwnedDirectory(scratchPrefix)
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  if (!(await mountMemory(directory, bytes))) return null
  t.teardown(() => unmount(directory))
  return {
    directory,
    resize: async (size) => {
      await runProgram({ program: 'mount', args: ['-o', `remount,size=${size}`, directory] })
    },
  }
}

/** Mounts a tmpfs of the given size, for every OS user to write to; false where that is not allowed. */
export async function mountMemory(directory: string, bytes: number): Promise<boolean> {
  const options = `size=${Math.floor(bytes)},mode=1777`
  try {
    await runProgram({ program: 'mount', args: ['-t', 'tmpfs', '-o', options, 'tmpfs', directory] })
    return true
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'program-failed') return false
    throw error
  }
}

export const noSmallDisk = 'needs root and the right to mount a tmpfs'

/** Unmounts at once for new users, and for good when the last old one lets go. */
export async function unmount(directory: string): Promise<void> {
  await runProgram({ program: 'umount', args: ['--lazy', directory] })
}
