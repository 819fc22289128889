import type { WalRetentionReason } from '../domain/wal-retention.ts'
import type { Repository } from '../repository/repository.ts'
import { judgeWal, readPhysicalBackups, type WalPolicy } from '../repository/wal-expiry.ts'

/** What an expiry would do with the WAL of one cluster in a repository. */
export interface WalTold {
  readonly systemIdentifier: string
  /** Physical backups of it that stay. */
  readonly backups: number
  /** In the order of timelines; files with one fate, for one reason, are told together. */
  readonly parts: readonly WalPart[]
}

interface WalPart {
  readonly timeline: number
  readonly keep: boolean
  readonly reason: WalRetentionReason
  readonly backupId: string | null
  files: number
  /** As stored. */
  bytes: number
}

/** Judges all WAL of a repository as if these backups had gone. Fails as the job would. */
export async function previewWal(
  repository: Repository,
  policy: WalPolicy,
  going: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<readonly WalTold[]> {
  const { backups, makingSince } = await readPhysicalBackups(repository, { signal })
  const kept = backups.filter(({ id }) => !going.has(id))
  const systems = new Map<string, Map<string, WalPart>>()
  for await (const judged of judgeWal(repository, policy, { backups: kept, makingSince }, { signal })) {
    const { systemIdentifier, timeline, keep, reason, backupId, file } = judged
    const parts = systems.get(systemIdentifier) ?? new Map<string, WalPart>()
    systems.set(systemIdentifier, parts)
    const key = `${timeline} ${reason} ${backupId}`
    const part = parts.get(key) ?? { timeline, keep, reason, backupId, files: 0, bytes: 0 }
    parts.set(key, part)
    part.files += 1
    part.bytes += file.info.bytes
  }
  return [...systems].map(([systemIdentifier, parts]) => ({
    systemIdentifier,
    backups: kept.filter((one) => one.systemIdentifier === systemIdentifier).length,
    parts: [...parts.values()],
  }))
}
