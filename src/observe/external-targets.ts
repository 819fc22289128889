import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { externalId, type KnownFile, newestOf } from './external-catalog.ts'
import { factsAt, scanDirectory } from './scan.ts'
import type { WatchedPlace } from './watched-directory.ts'

/** A file that can be verified. */
export interface FoundFile {
  readonly id: string
  readonly watch: string
  readonly path: string
  readonly database: string
}

/**
 * The files of watched directories: the newest finished one of each database, or, by its id, a certain one. From the
 * directories themselves: who asks may be a command, without a sidecar that watches.
 *
 * @throws LifeboatError `storage-failed` when a directory cannot be read
 */
export async function findExternalFiles(
  place: WatchedPlace,
  { id, database, clock, signal }: { id: string | null; database: string | null; clock: Clock; signal: AbortSignal },
): Promise<readonly FoundFile[]> {
  const scan = await scanDirectory(place.directory, signal)
  const now = clock.now().getTime()
  const files: KnownFile[] = []
  for (const [index, name] of scan.names.entries()) {
    const said = place.match(name)
    if (said === null) continue
    const facts = factsAt(scan, index)
    if (id === null && now - facts.modified < place.quietMs && facts.modified <= now) continue
    const of = place.database ?? said.database ?? ''
    if (database !== null && database !== of) continue
    files.push({
      name,
      id: externalId(place.name, name),
      facts,
      said,
      database: of,
      state: 'pending',
      inspection: null,
    })
  }
  const groups = Map.groupBy(files, (file) => file.database)
  const chosen =
    id === null ? [...groups.values()].flatMap((group) => newestOf(group, 1)) : files.filter((file) => file.id === id)
  return chosen.map((file) => ({
    id: file.id,
    watch: place.name,
    path: join(place.directory, file.name),
    database: file.database,
  }))
}
