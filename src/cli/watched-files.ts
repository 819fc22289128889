import type { Clock } from '../clock.ts'
import type { WatchConfig } from '../config/validated.ts'
import { findExternalFiles } from '../observe/external-targets.ts'
import type { HoldBody } from '../repository/repository.ts'
import type { History } from '../runner/history.ts'

/** The files of a watched directory, to be held as backups in a repository are. */
export interface WatchedFiles {
  readonly name: string
  /** @throws LifeboatError `storage-failed` when the directory cannot be read */
  has(id: string, options: { readonly clock: Clock; readonly signal: AbortSignal }): Promise<boolean>
  hold(body: HoldBody): Promise<void>
  /** True if there was a hold. */
  releaseHold(id: string): Promise<boolean>
}

/** Holds are kept in the state file: nothing is written beside the files. */
export function filesOf(watch: WatchConfig, { external }: Pick<History, 'external'>): WatchedFiles {
  return {
    name: watch.name,
    has: async (id, { clock, signal }) =>
      (await findExternalFiles(watch, { id, database: null, clock, signal })).length > 0,
    hold: async (body) => external.keepExternalHold(body.backupId, JSON.stringify(body)),
    releaseHold: async (id) => external.releaseExternalHold(id),
  }
}
