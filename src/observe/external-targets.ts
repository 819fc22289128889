import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { Inspection } from '../domain/external.ts'
import { finishedState, finishOf, identityOf, inodeOf, stillFor } from '../domain/external-file.ts'
import { externalId, type KnownFile, newestOf } from './external-catalog.ts'
import { lockedFiles } from './file-locks.ts'
import type { InspectionStore } from './inspections.ts'
import { factsAt, scanDirectory } from './scan.ts'
import type { WatchedPlace } from './watched-directory.ts'
import { mayBeOpen, openForWriting } from './writers.ts'

/** A file that can be verified. */
export interface FoundFile {
  readonly id: string
  readonly watch: string
  readonly path: string
  readonly database: string
  readonly bytes: number
}

/**
 * Looks at a watched directory once, for a command without a sidecar that watches: what is there, and what the sidecar
 * has found out about it. A file that it has not read is `pending`.
 *
 * @throws LifeboatError `storage-failed` when the directory cannot be read
 */
export async function surveyFiles(
  place: WatchedPlace,
  { store, clock, signal }: { store: InspectionStore | null; clock: Clock; signal: AbortSignal },
): Promise<readonly KnownFile[]> {
  const scan = await scanDirectory(place.directory, signal)
  const locks = await lockedFiles()
  const known = store?.inspections(place.name)
  const files: KnownFile[] = []
  for (const [index, name] of scan.names.entries()) {
    const said = place.match(name)
    if (said === null) continue
    const facts = factsAt(scan, index)
    const isLocked = locks.has(inodeOf(facts))
    const finish = finishOf(facts, {
      isNew: true,
      hasArrived: false,
      isLocked,
      stillMs: stillFor(facts, clock.now()),
      quietMs: place.quietMs,
    })
    const kept = known?.get(name)
    const inspection = kept?.identity === identityOf(facts) ? (JSON.parse(kept.found) as Inspection) : null
    // Where the sidecar has read these very bytes, the file was finished, though it is young.
    const isGrowing = finish === 'growing' && (inspection === null || isLocked)
    const state = isGrowing ? 'growing' : finishedState(facts, place.minBytes, inspection)
    const database = place.database ?? said.database ?? ''
    files.push({
      name,
      id: externalId(place.name, name),
      facts,
      namedAt: said.at?.getTime() ?? null,
      database,
      state,
      inspection,
    })
  }
  const open = new Set(
    await openForWriting(
      files.filter(({ state, facts }) => (state === 'pending' || state === 'empty') && mayBeOpen(facts, clock.now())),
      signal,
    ),
  )
  return files.map((file) => (open.has(file) ? { ...file, state: 'growing' as const } : file))
}

/**
 * The files of a watched directory that can be verified: the newest finished one of each database, or, by its id, a
 * certain one.
 *
 * @throws LifeboatError `storage-failed` when the directory cannot be read
 */
export async function findExternalFiles(
  place: WatchedPlace,
  { id, database, clock, signal }: { id: string | null; database: string | null; clock: Clock; signal: AbortSignal },
): Promise<readonly FoundFile[]> {
  const files = (await surveyFiles(place, { store: null, clock, signal })).filter(({ facts }) => !facts.isMisnamed)
  const fitting = files.filter((file) =>
    id === null ? file.state !== 'growing' && (database === null || database === file.database) : file.id === id,
  )
  const groups = Map.groupBy(fitting, (file) => file.database)
  return [...groups.values()]
    .flatMap((group) => newestOf(group, 1))
    .map((file) => ({
      id: file.id,
      watch: place.name,
      path: join(place.directory, file.name),
      database: file.database,
      bytes: file.facts.bytes,
    }))
}
