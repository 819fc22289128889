import type { Stats } from 'node:fs'
import { chmod, chown, mkdir, open, readdir, readFile, realpath, rm, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import type { OsUser } from '../postgres/programs.ts'
import { firstClosed, removeTree } from '../postgres/scratch-directory.ts'
import { hasCode, storageFailure } from '../storage/failures.ts'

/** File in a data directory that is not whole, from its first byte to its last. */
export const incompleteMarker = 'lifeboat-restore-incomplete'

/** Of the mark of a data directory; the directories that go with it follow. */
export const markerText = `This data directory is not whole: a restore into it is under way, or was cut off. Do not start a server on it.
When no restore is under way, remove it, together with these directories, and restore again:
`

/** In that of a tablespace: whose it is. */
const ofTablespace = 'This is a tablespace of a data directory that is not whole:\n'

/** A directory that a cluster is put into. */
interface Place extends Pick<Stats, 'dev' | 'ino'> {
  readonly path: string
  /** What it was, if it was there already, empty. */
  readonly before: Pick<Stats, 'mode' | 'uid' | 'gid'> | null
}

/** The data directory and the directories of its tablespaces, while they are filled. */
export class Places {
  readonly #data: Place
  readonly #others: readonly Place[]

  private constructor(data: Place, others: readonly Place[]) {
    this.#data = data
    this.#others = others
  }

  /**
   * Makes the directories, for their owner alone, or takes those that are there and empty, and marks each as not whole: of
   * several that want a directory at once one gets it, and who cleans up later knows whose it is.
   * When one of them cannot be had, nothing was made.
   *
   * @throws LifeboatError `conflict` for one that is not empty; `usage-invalid` for one that cannot be used; `storage-failed`
   */
  static async claim(
    dataDirectory: string,
    others: readonly string[],
    { owner, folder }: { readonly owner: OsUser | null; readonly folder: string },
  ): Promise<Places> {
    await assertApart([dataDirectory, ...others])
    const claimed: Place[] = []
    try {
      const data = await claimDirectory(dataDirectory, owner)
      await mark(data, { text: `${markerText}${[...others, folder].join('\n')}\n`, owner })
      claimed.push(data)
      const places: Place[] = []
      for (const path of others) {
        const place = await claimDirectory(path, owner)
        await mark(place, { text: `${ofTablespace}${dataDirectory}\n`, owner })
        claimed.push(place)
        places.push(place)
      }
      return new Places(data, places)
    } catch (error) {
      for (const place of claimed.reverse()) await giveBack(place)
      throw error
    }
  }

  /** From now on it is a data directory like any other. */
  async finish(): Promise<void> {
    await removeMarks(
      this.#data.path,
      this.#others.map(({ path }) => path),
    )
  }

  /** Leaves everything as it was. What cannot be removed keeps its mark, and is told of in the error that is given back. */
  async abandon(error: unknown): Promise<unknown> {
    try {
      for (const place of [...this.#others, this.#data]) await giveBack(place)
      return error
    } catch (left) {
      if (!(error instanceof LifeboatError)) return error
      const { code, message, details } = error
      const words = `${message}; what was restored so far cannot be removed: ${(left as Error).message}`
      const hint = `${incompleteMarker} in ${this.#data.path} says what to remove`
      return new LifeboatError(code, words, { hint, cause: error, ...(details ? { details } : {}) })
    }
  }
}

/** That of the data directory goes last: it tells of the others. */
export async function removeMarks(dataDirectory: string, tablespaces: readonly string[]): Promise<void> {
  for (const path of [...tablespaces, dataDirectory]) await rm(join(path, incompleteMarker), { force: true })
}

/** Whether the directory of a tablespace is there, and belongs to the restore into this data directory; empty is nobody's. */
export async function isTablespaceOf(path: string, dataDirectory: string): Promise<'its own' | 'nothing' | 'other'> {
  const names = await readdir(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return []
    throw storageFailure(`cannot read ${path}`, error)
  })
  if (names.length === 0) return 'nothing'
  const text = await readFile(join(path, incompleteMarker), 'utf8').catch(() => null)
  return text === `${ofTablespace}${dataDirectory}\n` ? 'its own' : 'other'
}

/** Empties a directory; what is named stays. */
export async function emptyDirectory(directory: string, keep?: string): Promise<void> {
  for (const name of await readdir(directory)) if (name !== keep) await removeTree(join(directory, name))
}

/** Writes a file that is not there yet: whatever an archive has put in its way is not followed. */
export async function writeNew(path: string, text: string, owner: OsUser | null): Promise<void> {
  const handle = await open(path, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    if (owner !== null) await handle.chown(owner.uid, owner.gid)
  } finally {
    await handle.close()
  }
}

/** Makes a directory that its owner alone may enter. Its parent must be there: that of a disk which is not mounted is not. */
export async function makePrivate(path: string, owner: OsUser | null): Promise<void> {
  await mkdir(path, { mode: 0o700 })
  await givePrivate(path, owner)
}

async function givePrivate(path: string, owner: OsUser | null): Promise<void> {
  await chmod(path, 0o700)
  if (owner !== null) await chown(path, owner.uid, owner.gid)
}

async function claimDirectory(path: string, owner: OsUser | null): Promise<Place> {
  try {
    const before = await mkdir(path, { mode: 0o700 }).then(
      () => null,
      (error: unknown) => (hasCode(error, 'EEXIST') ? stat(path) : Promise.reject(error)),
    )
    if (before !== null && (await readdir(path)).length > 0) throw notEmpty(path)
    const { dev, ino } = before ?? (await stat(path))
    const place = { path, before, dev, ino }
    await givePrivate(path, owner).catch(async (error: unknown) => {
      await giveBack(place)
      throw error
    })
    const closed = await firstClosed(path, owner)
    if (closed !== null) {
      await giveBack(place)
      throw new LifeboatError(
        'usage-invalid',
        `the OS user ${owner?.name}, whose ${path} is to be, cannot enter ${closed}`,
        {
          hint: `name a directory that it can enter, or run: chmod o+x ${closed}`,
        },
      )
    }
    return place
  } catch (error) {
    if (hasCode(error, 'ENOENT'))
      throw new LifeboatError('usage-invalid', `${dirname(path)} does not exist`, {
        hint: 'make it, or mount its disk',
        cause: error,
      })
    if (hasCode(error, 'ENOTDIR', 'ELOOP'))
      throw new LifeboatError('usage-invalid', `${path} is not a directory`, { cause: error })
    throw storageFailure(`cannot make ${path}`, error)
  }
}

async function mark(
  place: Place,
  { text, owner }: { readonly text: string; readonly owner: OsUser | null },
): Promise<void> {
  try {
    await writeNew(join(place.path, incompleteMarker), text, owner)
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw notEmpty(place.path) // of a restore that was quicker: it is not ours to empty
    await giveBack(place)
    throw storageFailure(`cannot write into ${place.path}`, error)
  }
}

function notEmpty(path: string): LifeboatError {
  return new LifeboatError('conflict', `${path} is not empty`, {
    hint: 'name a directory that does not exist or is empty: nothing is ever replaced',
  })
}

async function giveBack({ path, before, dev, ino }: Place): Promise<void> {
  // Its disk may have been unmounted, or another directory put in its place: what lies there then is not ours to remove.
  const found = await stat(path)
  if (found.dev !== dev || found.ino !== ino) throw new Error(`${path} is not the directory any more that it was`)
  // The mark goes last.
  await emptyDirectory(path, incompleteMarker)
  if (before === null) return removeTree(path)
  await rm(join(path, incompleteMarker), { force: true })
  await chmod(path, before.mode & 0o7777)
  if (found.uid !== before.uid || found.gid !== before.gid) await chown(path, before.uid, before.gid)
}

/** @throws LifeboatError `usage-invalid` for paths that are relative, or of which one lies in another */
async function assertApart(paths: readonly string[]): Promise<void> {
  const real: string[] = []
  for (const path of paths) {
    if (!isAbsolute(path) || path.includes('\0'))
      throw new LifeboatError('usage-invalid', `${JSON.stringify(path)} is not an absolute path`)
    const parent = await realpath(dirname(path)).catch(() => dirname(path))
    const own = await realpath(path).catch(() => join(parent, basename(path)))
    const other = real.findIndex((one) => `${one}/`.startsWith(`${own}/`) || `${own}/`.startsWith(`${one}/`))
    if (other >= 0)
      throw new LifeboatError('usage-invalid', `${path} and ${paths[other]} lie in one another`, {
        hint: 'the data directory and each tablespace need a directory of their own',
      })
    real.push(own)
  }
}
