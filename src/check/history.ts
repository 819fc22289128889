import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type { ValidatedConfig } from '../config/validated.ts'
import { historyName } from '../domain/wal.ts'
import { withSession } from '../postgres/connection.ts'
import type { Repository } from '../repository/repository.ts'
import { type Finding, looked, warning } from './finding.ts'

/**
 * Whether the history of the server's timeline is stored: a server that was promoted while it archived nothing, as a restored
 * one, has not archived it, and no recovery gets to its timeline without.
 */
export async function checkHistory(
  { postgres, wal: { archive } }: ValidatedConfig,
  repositories: readonly Repository[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  if (archive === null) return []
  const place = await withSession(postgres, { database: postgres.maintenanceDatabase, signal }, async (session) => {
    const [row] = await session.query<{ system: string; timeline: number }>(
      `select s.system_identifier::text as system, c.timeline_id as timeline
         from pg_control_system() s, pg_control_checkpoint() c`,
    )
    return row
  }).catch(() => undefined) // told of already
  if (place === undefined || place.timeline === 1) return []
  const name = historyName(place.timeline)
  const isArchived = await access(join(archive, name)).then(
    () => true,
    () => false,
  )
  if (isArchived) return []
  return looked('wal', async () => {
    const lacking: string[] = []
    for (const repository of repositories)
      if ((await repository.wal.headPlain(place.system, name, { signal })) === null) lacking.push(repository.name)
    if (lacking.length === 0) return []
    const what = `the server is on timeline ${place.timeline}, and its history ${name} is not stored in ${lacking.join(', ')}: no recovery gets there`
    const hint = `lifeboat backup --type full stores it; or, as the server's OS user in its data directory: touch pg_wal/archive_status/${name}.ready`
    return [warning('wal', what, hint)]
  })
}
