import type { ValidatedConfig } from '../config/validated.ts'
import { freeBytes } from '../jobs/work-folder.ts'
import type { Session } from '../postgres/connection.ts'
import { tablespacesOf } from '../postgres/physical-facts.ts'
import { type Finding, warning } from './finding.ts'
import { megabytes, nearestThere } from './places.ts'

/**
 * Whether a full backup fits. How well a cluster compresses nobody knows before: it is taken as it is, so that this warns
 * early rather than late.
 */
export async function checkPhysicalRoom(
  session: Session,
  { repositories, workDir }: Pick<ValidatedConfig, 'repositories' | 'workDir'>,
): Promise<readonly Finding[]> {
  const [row] = await session.query<{ bytes: string }>(
    `select coalesce(sum(pg_database_size(oid)), 0)::text as bytes from pg_database
     where has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')`,
  )
  const bytes = Number(row?.bytes)
  // Standard output carries one tablespace: more are staged.
  const isStaged = (await tablespacesOf(session)).length > 0
  const places = [
    // A bucket has no end.
    ...repositories.flatMap(({ name, path }) =>
      path === null ? [] : [{ area: 'repository' as const, what: name, path }],
    ),
    ...(isStaged ? [{ area: 'work folder' as const, what: 'tablespaces are staged here', path: workDir }] : []),
  ]
  const found: Finding[] = []
  for (const { area, what, path } of places) {
    const free = await freeBytes(await nearestThere(path))
    if (free >= bytes) continue
    const words = `${what}: ${megabytes(free)} free, and the cluster has ${megabytes(bytes)}: a full backup may not fit, unless it compresses well`
    found.push(warning(area, words, 'make room before the next full backup'))
  }
  return found
}
