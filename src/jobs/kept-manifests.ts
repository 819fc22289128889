import { hash } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/*
 * The server wants the backup_manifest of the parent to make an incremental backup, and the stored one can be read with a private
 * key only, which a machine that makes backups need not have. So those of the newest encrypted backups are kept in the
 * state directory, under a name that tells whether they are whole. One that is lost costs a full backup.
 */

const folder = 'manifests'
const kept = 8

/** @param path of the backup_manifest */
export async function keepManifest(stateDir: string, backupId: string, path: string): Promise<void> {
  const directory = join(stateDir, folder)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const bytes = await readFile(path)
  const name = `${backupId}-${hash('sha256', bytes)}`
  const temporary = join(directory, `.${name}`)
  await writeFile(temporary, bytes, { mode: 0o600 })
  const handle = await open(temporary)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, join(directory, name))
  const names = (await readdir(directory)).toSorted()
  const visible = names.filter((one) => !one.startsWith('.'))
  const old = [...visible.slice(0, -kept), ...names.filter((one) => one.startsWith('.'))]
  for (const one of old) await rm(join(directory, one), { force: true })
}

/** Writes the one of a backup to a path; false when it is not kept, or not whole. */
export async function takeKeptManifest(stateDir: string, backupId: string, path: string): Promise<boolean> {
  const directory = join(stateDir, folder)
  const names = await readdir(directory).catch(() => [])
  const name = names.find((one) => one.startsWith(`${backupId}-`))
  if (name === undefined) return false
  const bytes = await readFile(join(directory, name)).catch(() => null)
  if (bytes === null || name !== `${backupId}-${hash('sha256', bytes)}`) return false
  await writeFile(path, bytes, { mode: 0o600 })
  return true
}
