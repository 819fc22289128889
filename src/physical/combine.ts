import { constants, copyFile, readdir, rename, rmdir, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { withCause } from '../postgres/failures.ts'
import { programPath } from '../postgres/installations.ts'
import { runProgram } from '../postgres/programs.ts'
import { hasCode } from '../storage/failures.ts'
import { type CheckOptions, linkTo, type UnpackedMember } from './check-member.ts'

export interface CombineOptions extends CheckOptions {
  /** The full one first; each was checked. */
  readonly members: readonly UnpackedMember[]
  /** Made here. */
  readonly output: string
  /** By oid, of the last member; each is there, and has nothing but its mark. */
  readonly tablespaces: ReadonlyMap<number, string>
  /** A directory on the file system of the members. */
  readonly folder: string
}

/**
 * Puts a chain together. The members cannot be used any more afterwards: their files may be those of the output.
 *
 * Source: https://www.postgresql.org/docs/current/app-pgcombinebackup.html
 *
 * @throws LifeboatError `program-failed`, `disk-full`
 */
export async function combine(options: CombineOptions): Promise<void> {
  const { members, output, tablespaces, installation, owner, env, signal } = options
  const last = members.at(-1) as UnpackedMember
  const mapped = [...tablespaces].map(([oid, path]) => {
    const from = last.tablespaces.get(oid) ?? ''
    return `--tablespace-mapping=${escaped(from)}=${escaped(join(path, combinedFolder))}`
  })
  await runProgram({
    program: programPath(installation, 'pg_combinebackup'),
    args: [
      '--no-sync', // the caller does, once
      ...(await howToCopy(options)),
      ...mapped,
      `--output=${output}`,
      ...members.map(({ dataDirectory }) => dataDirectory),
    ],
    ...{ env, signal, user: owner },
  }).catch((error: unknown) => {
    throw withCause(error)
  })
  for (const [oid, path] of tablespaces) {
    const combined = join(path, combinedFolder)
    await moveInto(combined, path)
    await rmdir(combined)
    const link = join(output, 'pg_tblspc', String(oid))
    await unlink(link)
    await linkTo(path, link, owner)
  }
}

/** In the directory of a tablespace, which must be an empty one for pg_combinebackup. */
const combinedFolder = 'lifeboat-combined'

/** An `=` ends the old path, unless a backslash stands before it. */
function escaped(path: string): string {
  return path.replaceAll('=', '\\=')
}

/** The way to have a file in the output that needs the least reading and writing. */
async function howToCopy({ installation, folder, tablespaces }: CombineOptions): Promise<readonly string[]> {
  const { dev } = await stat(folder)
  for (const path of tablespaces.values()) if ((await stat(path)).dev !== dev) return []
  if (installation.major >= 18) return ['--link']
  return (await canClone(folder)) ? ['--clone'] : ['--copy-file-range']
}

async function canClone(folder: string): Promise<boolean> {
  const [from, to] = [join(folder, 'clone-from'), join(folder, 'clone-to')]
  await writeFile(from, 'x')
  return copyFile(from, to, constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    () => false,
  )
}

/** Moves what is in one directory into another one; what a server looks for first comes last. */
export async function moveInto(from: string, to: string): Promise<void> {
  const names = (await readdir(from)).toSorted((a, b) => Number(a === 'global') - Number(b === 'global'))
  for (const name of names) {
    await rename(join(from, name), join(to, name)).catch((error: unknown) => {
      throw hasCode(error, 'EXDEV') ? apart(from, to) : error
    })
  }
}

/** @throws LifeboatError `usage-invalid` unless files can be moved from one directory into the other */
export async function assertOneFileSystem(from: string, to: string): Promise<void> {
  if ((await stat(from)).dev !== (await stat(to)).dev) throw apart(from, to)
}

function apart(from: string, to: string): LifeboatError {
  return new LifeboatError('usage-invalid', `${from} and ${to} lie on different file systems`, {
    hint: 'a chain is unpacked and put together on the file system of the data directory',
  })
}
