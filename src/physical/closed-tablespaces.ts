import { chmod } from 'node:fs/promises'
import { join } from 'node:path'

/*
 * Whoever replays the creation of a tablespace makes it at its old path, and if a server of this machine has it there, writes
 * into the files of that server. While the directory of the links cannot be written to the replay stops instead, before it
 * has written anything. Source: create_tablespace_directories() in src/backend/commands/tablespace.c
 */

const links = 'pg_tblspc'

/** No new tablespace can be linked from now on. */
export async function closeTablespaces(dataDirectory: string): Promise<void> {
  await chmod(join(dataDirectory, links), 0o500)
}

/** They can again. Fine if it is gone. */
export async function openTablespaces(dataDirectory: string): Promise<void> {
  await chmod(join(dataDirectory, links), 0o700).catch(() => {})
}

/** The same as `recovery_end_command`, which a server carries out in its data directory before it takes writes. */
export const openTablespacesCommand = `chmod 700 ${links}`
