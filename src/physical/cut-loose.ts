import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { OsUser } from '../postgres/programs.ts'
import { hasCode } from '../storage/failures.ts'
import { writeNew } from './places.ts'

/** Where the settings that ALTER SYSTEM had made in the server that was backed up are, after a restore. */
export const settingsBefore = 'postgresql.auto.conf.before-restore'

/** What makes a server begin a recovery, or be a standby; and what ties the copy to the server that was backed up. */
const ties = ['tablespace_map', 'recovery.signal', 'standby.signal', 'postmaster.pid', 'postmaster.opts']

/** Takes away what would have a server on this directory touch anything of the one that was backed up. */
export async function cutLoose(dataDirectory: string, owner: OsUser | null): Promise<void> {
  for (const name of ties) await rm(join(dataDirectory, name), { force: true })
  const settings = join(dataDirectory, 'postgresql.auto.conf')
  await rename(settings, join(dataDirectory, settingsBefore)).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error
  })
  await writeNew(settings, '', owner)
}
