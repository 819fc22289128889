import { addObjects, type BackupObjects, noObjects } from '../domain/backup-objects.ts'
import { type ScheduledType, scheduledTypes } from '../domain/cost-steady.ts'
import type { CostFacts, CostGroup } from '../domain/cost-usage.ts'
import { parseLsn } from '../domain/lsn.ts'
import { monthSeconds } from '../domain/prices.ts'
import type { BackupSummary, Catalog, RepositoryState } from './catalog.ts'
import { type RankedBackups, rankBackups, requiredDatabases } from './questions.ts'
import { storedWalBytes } from './stored-bytes.ts'
import type { StoredSystem, WalClockState } from './wal-state.ts'

/** What the cost of a repository depends on, as it was last seen; null where nobody has seen it. */
export function costFacts(
  catalog: Catalog,
  repository: string,
  { hasWal, ranked = rankBackups(catalog) }: { readonly hasWal: boolean; readonly ranked?: readonly RankedBackups[] },
): CostFacts | null {
  const found = ranked.find(({ state }) => state.name === repository)
  if (found === undefined) return null
  const { backups } = found.state
  return {
    backups: backups.map(({ id, type, finishedAt, objects }) => ({
      ...{ id, type, objects: objects ?? noObjects },
      ageSeconds: Math.max(0, (catalog.at.getTime() - finishedAt.getTime()) / 1000),
    })),
    groups: groupsOf(found, requiredDatabases(catalog)),
    wal: walFacts(catalog, found.state, hasWal),
  }
}

/** The newest of each database of which more will come. */
function groupsOf({ groups, state }: RankedBackups, required: readonly string[] | null): readonly CostGroup[] {
  return groups.flatMap(([newest]): CostGroup[] => {
    const type = scheduledTypes.find((one) => one === newest?.type)
    if (newest === undefined || type === undefined) return []
    if (newest.database !== '' && required?.includes(newest.database) === false) return []
    return [{ type, newest: newest.objects ?? noObjects, verified: chainObjects(newest, type, state) }]
  })
}

/** What must be read to restore a backup. */
function chainObjects(newest: BackupSummary, type: ScheduledType, { backups }: RepositoryState): BackupObjects {
  let sum = newest.objects ?? noObjects
  if (type !== 'incremental') return sum
  const seen = new Set([newest.id])
  for (let id = newest.parent; id !== null && !seen.has(id); ) {
    seen.add(id)
    const known = id
    const parent = backups.find((one) => one.id === known)
    sum = addObjects(sum, parent?.objects ?? noObjects)
    id = parent?.parent ?? null
  }
  return sum
}

function walFacts({ wal }: Catalog, state: RepositoryState, hasWal: boolean): CostFacts['wal'] {
  const stored = wal?.stored.find(({ repository }) => repository === state.name)
  const systems = [...(stored?.systems.values() ?? [])]
  const objects = systems.reduce((sum, { segments, partials }) => sum + segments + partials, 0)
  const bytes = systems.reduce((sum, one) => sum + one.bytes, 0)
  if (!hasWal && objects === 0) return null
  // None comes any more.
  if (!hasWal) return { objects, bytes, perMonth: { objects: 0, bytes: 0 } }
  const perMonth = systems.reduce<ReturnType<typeof fromBackups>>(
    (found, system) => found ?? fromBackups(system, state),
    null,
  )
  return { objects, bytes, perMonth: perMonth ?? fromServer(systems, wal?.clock ?? null) }
}

/** Physical backups nearer to one another tell nothing of a month. */
const leastSeconds = 3600

/** Between the first and the last physical backup: both say when and where in the WAL they began. */
function fromBackups({ systemIdentifier, coverage, storedBytes }: StoredSystem, { backups }: RepositoryState) {
  const physical = backups
    .filter(({ type }) => type === 'full' || type === 'incremental')
    .filter((backup) => backup.systemIdentifier === systemIdentifier)
    .toSorted((a, b) => a.startedAt.getTime() - b.startedAt.getTime())
  const [first, last] = [physical[0], physical.at(-1)]
  if (first === undefined || last === undefined) return null
  const seconds = (last.startedAt.getTime() - first.startedAt.getTime()) / 1000
  const [from, to] = [parseLsn(first.startLsn), parseLsn(last.startLsn)]
  if (seconds < leastSeconds || from === null || to === null || to < from) return null
  const bytes = storedWalBytes(
    { coverage, ...(storedBytes === undefined ? {} : { storedBytes }) },
    last.startTimeline,
    {
      from: { timeline: first.startTimeline, lsn: from },
      to: { timeline: last.startTimeline, lsn: to },
    },
  )
  const objects = Number(to - from) / coverage.segmentSize
  return bytes === null ? null : perMonthOf({ objects, bytes }, seconds)
}

/** As fast as the server has written of late, and as small as what is stored of it. */
function fromServer(systems: readonly StoredSystem[], clock: WalClockState | null) {
  const system = systems.find(({ systemIdentifier }) => systemIdentifier === clock?.systemIdentifier)
  if (clock === null || clock.rate === null || system === undefined || system.segments === 0) return null
  const objects = clock.rate / clock.segmentSize
  return perMonthOf({ objects, bytes: (objects * system.bytes) / system.segments }, 1)
}

function perMonthOf({ objects, bytes }: { readonly objects: number; readonly bytes: number }, seconds: number) {
  return { objects: (objects * monthSeconds) / seconds, bytes: (bytes * monthSeconds) / seconds }
}
