import { randomBytes } from 'node:crypto'
import { link, lstat, mkdir, open, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'

/** @throws LifeboatError `usage-invalid` when something has this name already, a broken link included */
export async function refuseExisting(path: string): Promise<void> {
  if (await exists(path)) throw taken(path)
}

export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

/**
 * Writes a file that must not be there yet: whole and synced under another name first, so that whoever sees it sees all of
 * it, and nothing is ever replaced. Its directory is made if it is missing.
 *
 * @throws LifeboatError `usage-invalid` when something has this name already, or it cannot be written
 */
export async function writeNew(path: string, text: string, mode: number): Promise<void> {
  const directory = dirname(path)
  const temporary = join(directory, `.lifeboat-init-${randomBytes(6).toString('hex')}.tmp`)
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 })
    const file = await open(temporary, 'wx', mode)
    try {
      await file.chmod(mode) // whatever the umask is
      await file.writeFile(text)
      await file.sync()
      // Unlike a rename it fails when the name is taken.
      await link(temporary, path).catch((error: unknown) => {
        throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? taken(path) : error
      })
    } finally {
      await file.close()
      await unlink(temporary)
    }
    const folder = await open(directory, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  } catch (error) {
    if (error instanceof LifeboatError) throw error
    const { code = 'unknown reason' } = error as NodeJS.ErrnoException
    const hint = 'choose another place with --output, or run it as a user who may write there'
    throw new LifeboatError('usage-invalid', `${path} cannot be written (${code})`, { hint, cause: error })
  }
}

function taken(path: string): LifeboatError {
  return new LifeboatError('usage-invalid', `${path} is there already, and is not overwritten`, {
    hint: 'choose another name with --output, or look at what would be written without --write',
  })
}
