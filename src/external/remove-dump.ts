import { link, mkdir, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { pid } from 'node:process'
import { LifeboatError } from '../domain/errors.ts'
import { identityOf } from '../domain/external-file.ts'
import { lookAtFile } from './file-facts.ts'

/** In a watched directory: what is looked at once more before it goes, under its own name. */
const expiring = '.lifeboat-expiring'
/** What has been looked at, and goes. */
const removing = '.lifeboat-removing'

/** Names in a watched directory that are ours. */
export function isOwnName(name: string): boolean {
  return name === expiring || name === removing
}

/**
 * Removes a dump that another tool wrote, if it still is the very one that was judged: under a name of its own, where
 * nobody replaces it between the look and the removal. Killed at any instant, what is left is the dump in its place, or in
 * `.lifeboat-expiring`, from where `finishRemovals` puts it back; or one that it takes away.
 *
 * @throws LifeboatError `conflict` when it is another one by now; `storage-failed`
 */
export async function removeDump(directory: string, name: string, identity: string): Promise<void> {
  try {
    const path = join(directory, name)
    const isTheSame = async (where: string) => {
      const facts = await lookAtFile(where)
      return facts !== null && identityOf(facts) === identity
    }
    if (!(await isTheSame(path))) throw changed(name)
    await refuseTree(path)
    await makeOwn(directory, expiring)
    const aside = join(directory, expiring, name)
    await rename(path, aside)
    if (!(await isTheSame(aside))) {
      await putBack(directory, name)
      throw changed(name)
    }
    await makeOwn(directory, removing)
    const doomed = join(directory, removing, String(pid))
    await removeFlat(doomed)
    await rename(aside, doomed)
    await removeFlat(doomed)
    await tidy(directory)
  } catch (error) {
    throw failure(directory, name, error)
  }
}

/** Ends what a killed process has begun: what was not looked at goes back to its place, the rest goes. Gives the names put back. */
export async function finishRemovals(directory: string): Promise<readonly string[]> {
  try {
    for (const name of await names(join(directory, removing))) await removeFlat(join(directory, removing, name))
    const back: string[] = []
    for (const name of await names(join(directory, expiring))) {
      await putBack(directory, name)
      back.push(name)
    }
    await tidy(directory)
    return back
  } catch (error) {
    throw failure(directory, expiring, error)
  }
}

/** pg_dump makes no directory in a directory: whatever this is, it is more than a dump. */
async function refuseTree(path: string): Promise<void> {
  if (!(await lookAtFile(path))?.isDirectory) return
  const deeper = (await readdir(path, { withFileTypes: true })).find((entry) => entry.isDirectory())
  if (deeper === undefined) return
  const words = `${JSON.stringify(path)} is not removed: there is a directory in it, ${JSON.stringify(deeper.name)}`
  throw new LifeboatError('storage-failed', words, { hint: 'Look at what it is, and remove it by hand.' })
}

/** Never over anything: what has come there meanwhile is newer, and both stay. */
async function putBack(directory: string, name: string): Promise<void> {
  const [aside, path] = [join(directory, expiring, name), join(directory, name)]
  const facts = await lookAtFile(aside)
  if (facts === null || facts.isDirectory) {
    await rename(aside, path) // fails on a directory that is not empty, and on any file
    return
  }
  await link(aside, path)
  await unlink(aside)
}

/** A file, or a directory with nothing but files in it, which is what pg_dump makes. Links go, never what they point to. */
async function removeFlat(path: string): Promise<void> {
  const facts = await lookAtFile(path)
  if (facts?.isDirectory) {
    for (const member of await readdir(path)) await unlink(join(path, member))
    await rmdir(path)
  } else await unlink(path).catch(ignoreMissing)
}

async function makeOwn(directory: string, name: string): Promise<void> {
  await mkdir(join(directory, name), { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
}

async function tidy(directory: string): Promise<void> {
  for (const name of [removing, expiring]) await rmdir(join(directory, name)).catch(() => undefined)
}

async function names(directory: string): Promise<readonly string[]> {
  return readdir(directory).catch((error: unknown) => {
    ignoreMissing(error)
    return []
  })
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}

function changed(name: string): LifeboatError {
  return new LifeboatError('conflict', `${JSON.stringify(name)} stays after all: it is not what it was any more`, {
    hint: 'the next expiry decides anew',
  })
}

function failure(directory: string, name: string, error: unknown): LifeboatError {
  if (error instanceof LifeboatError) return error
  const { code, message } = error as NodeJS.ErrnoException
  const hint =
    code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
      ? `Let the OS user of lifeboat write to ${directory}, or leave watch.retention out.`
      : 'Look at the disk of the watched directory.'
  const words = `cannot remove ${JSON.stringify(name)} from ${directory}: ${message}`
  return new LifeboatError('storage-failed', words, { hint, cause: error })
}
