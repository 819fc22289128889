import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import type { Core } from './core.ts'
import type { ServerState } from './observe/catalog.ts'
import { previewWal, type WalTold } from './observe/wal-preview.ts'

/** What would become of the WAL in a repository if these backups had gone; null: all of it stays, whatever goes. */
export type WalPreview = (
  repository: string,
  going: ReadonlySet<string>,
  signal: AbortSignal,
) => Promise<readonly WalTold[] | null>

/** Reads the repositories themselves, as the job does. */
export function walPreviewOf(
  config: Pick<ValidatedConfig, 'repositories'>,
  core: Pick<Core, 'repositories'>,
  { clock, server }: { readonly clock: Clock; readonly server: () => ServerState | null },
): WalPreview {
  return async (name, going, signal) => {
    const keepForSeconds = config.repositories.find((one) => one.name === name)?.walKeepForSeconds ?? null
    const found = core.repositories.find(({ repository }) => repository.name === name)
    if (keepForSeconds === null || found === undefined) return null
    // Only its own word counts.
    const present = async () => (server()?.source === 'server' ? (server()?.systemIdentifier ?? null) : null)
    return previewWal(found.repository, { keepForSeconds, now: clock.now(), present }, going, signal)
  }
}
