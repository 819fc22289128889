import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import type { RestoreMark } from '../physical/restore-mark.ts'
import { readControlData } from '../postgres/control-data.ts'
import type { PreparedRestore } from './restore-cluster-plan.ts'

/**
 * Whether a restore that was cut off in its recovery can go on with it: its files are whole, of the same backup, and no server
 * has gone beyond the recovery. Otherwise it begins again.
 */
export async function canGoOn(
  dataDirectory: string,
  left: RestoreMark,
  { installation, owner, manifest }: Pick<PreparedRestore, 'installation' | 'owner' | 'manifest'>,
): Promise<boolean> {
  if (left.phase !== 'recovery') return false
  const control = await readControlData(installation, dataDirectory, owner).catch(() => null)
  if (control === null || control.systemIdentifier !== manifest.systemIdentifier) return false
  if (/^(?:in archive recovery|shut down in recovery)$/.test(control.state)) return true
  // Not started yet: it has the state of the server that it was taken from. Promoted: the label is put aside.
  return (await lstat(join(dataDirectory, 'backup_label')).catch(() => null)) !== null
}
