import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { bootId } from '../fetch/spool.ts'
import { incompleteMarker } from '../physical/places.ts'
import type { RestoreMark } from '../physical/restore-mark.ts'
import { readControlData } from '../postgres/control-data.ts'
import type { PreparedRestore } from './restore-cluster-plan.ts'

/**
 * Whether a restore that was cut off in its recovery can go on with it: its files are whole, on the disk or at least in memory,
 * and of the same backup. Otherwise it begins again.
 *
 * @throws LifeboatError `conflict` when a server has gone beyond the recovery: what was written to it since nobody knows
 */
export async function canGoOn(
  dataDirectory: string,
  left: RestoreMark,
  { installation, owner, manifest }: Pick<PreparedRestore, 'installation' | 'owner' | 'manifest'>,
): Promise<boolean> {
  if (left.phase !== 'recovery') return false
  const control = await readControlData(installation, dataDirectory, owner).catch(() => null)
  if (control === null || control.systemIdentifier !== manifest.systemIdentifier) return false
  const isSame = left.backupId === manifest.backupId
  // Not started yet: it has the state of the server that it was taken from, and may be in memory alone. What was there is gone
  // with the boot of the machine. A server writes all files through to the disk before it puts the label aside.
  if ((await lstat(join(dataDirectory, 'backup_label')).catch(() => null)) !== null)
    return isSame && left.boot === (await bootId())
  if (/^(?:in archive recovery|shut down in recovery)$/.test(control.state)) return isSame
  throw new LifeboatError(
    'conflict',
    `a server has left its recovery in ${dataDirectory} and may have been written to`,
    {
      hint: `nothing of it is removed. Compare what it holds with what was asked for, and remove ${incompleteMarker} from it and the directories that it names; or remove them all`,
    },
  )
}
