import type { Logger } from 'pino'
import { clockToleranceMs, type Manifest } from '../domain/backup.ts'
import type { Repository } from '../repository/repository.ts'
import { readableManifest } from './newest-dumps.ts'

/**
 * What is suspicious about the surroundings of a dump. It is taken all the same: a backup with a doubt is worth more than
 * none. The sentences stand in its manifest, and in the log once a run.
 */
export async function dumpWarnings({
  repositories,
  systemIdentifier,
  clockOffsetSeconds,
  signal,
  log,
}: {
  readonly repositories: readonly Repository[]
  readonly systemIdentifier: string
  /** Positive: the server's clock is ahead of ours. */
  readonly clockOffsetSeconds: number
  readonly signal: AbortSignal
  readonly log: Logger
}): Promise<readonly string[]> {
  const warnings: string[] = []
  if (Math.abs(clockOffsetSeconds) * 1000 > clockToleranceMs) {
    const offset = `${Math.round(Math.abs(clockOffsetSeconds))} s ${clockOffsetSeconds < 0 ? 'behind' : 'ahead of'}`
    warnings.push(`the server's clock is ${offset} that of lifeboat: one of them dates backups wrongly`)
  }
  for (const repository of repositories) {
    const last = await lastBackup(repository, signal)
    if (last === null || last.systemIdentifier === systemIdentifier) continue
    warnings.push(
      `the last backup in repository ${repository.name}, ${last.backupId}, is of another cluster, ${last.systemIdentifier}: ` +
        'after initdb or pg_upgrade that is right, two clusters in one place are not',
    )
  }
  for (const warning of warnings) log.warn(warning)
  return warnings
}

/** The one that was named last: enough for a doubt, and two reads instead of ten thousand. */
async function lastBackup(repository: Repository, signal: AbortSignal): Promise<Manifest | null> {
  const ids: string[] = []
  try {
    for await (const id of repository.listBackups({ signal })) ids.push(id)
    for (const id of ids.toReversed()) {
      const manifest = await readableManifest(repository, id, signal)
      if (manifest !== null) return manifest
    }
  } catch {
    signal.throwIfAborted()
    // The dump will not be stored there either, and that says why.
  }
  return null
}
