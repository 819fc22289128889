import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { killOrphans } from '../postgres/orphans.ts'

/** Makes `<tmp>/<prefix><pid>-<random>`: the name tells whose it is, so that somebody can clear up after a killed owner. */
export function makeOwnedDirectory(prefix: string): Promise<string> {
  return mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
}

/**
 * Removes the directories with this prefix whose owners have gone, and ends the servers in them. Those of other OS users
 * are left alone, and a directory that cannot be removed as well: it is only clutter. `before` is called for each, with
 * its path, when its servers have gone.
 */
export async function removeLeftovers(prefix: string, before?: (directory: string) => Promise<void>): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = name.startsWith(prefix) ? Number(/^\d+(?=-)/.exec(name.slice(prefix.length))?.[0] ?? 0) : 0
    if (owner === 0 || isAlive(owner)) continue
    const directory = join(tmpdir(), name)
    const found = await stat(directory).catch(() => null)
    if (found?.uid !== userInfo().uid) continue
    await killOrphans(directory)
    await before?.(directory)
    await rm(directory, { recursive: true, force: true, maxRetries: 3 }).catch(() => {})
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
