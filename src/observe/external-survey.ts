import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { identityOf } from '../domain/external-file.ts'
import type { RetentionCandidate } from '../domain/retention.ts'
import type { HoldSummary, ProofSummary } from './catalog.ts'
import { type KnownFile, summaryOf } from './external-catalog.ts'
import { surveyFiles } from './external-targets.ts'
import type { InspectionStore } from './inspections.ts'
import { externalCandidate } from './retention.ts'
import type { WatchedPlace } from './watched-directory.ts'

/** A complete look at a watched directory, for its expiry. */
export interface FilesSurvey {
  readonly backups: readonly RetentionCandidate[]
  /** Files that nobody has read, or could. */
  readonly uncertain: ReadonlySet<string>
  /** By id. */
  readonly files: ReadonlyMap<string, { readonly name: string; readonly path: string; readonly identity: string }>
}

export interface FilesSurveyOptions {
  readonly store: InspectionStore
  readonly proofs: ReadonlyMap<string, readonly ProofSummary[]>
  readonly holds: ReadonlyMap<string, HoldSummary>
  readonly clock: Clock
  readonly signal: AbortSignal
}

const uncertainStates: ReadonlySet<KnownFile['state']> = new Set(['pending', 'unchecked', 'unreadable'])

/**
 * Looks at all files of a watched directory, also at those that are no backups: what is broken goes too, in its time.
 *
 * @throws LifeboatError `storage-failed` when the directory cannot be read
 */
export async function surveyForExpiry(
  place: WatchedPlace,
  { store, proofs, holds, clock, signal }: FilesSurveyOptions,
): Promise<FilesSurvey> {
  // One whose name is no UTF-8 cannot be named, and so not removed.
  const files = (await surveyFiles(place, { store, clock, signal })).filter(({ facts }) => !facts.isMisnamed)
  const backups = files.map((file): RetentionCandidate => {
    const own = proofs.get(file.id)?.filter(({ manifestChecksum }) => manifestChecksum === identityOf(file.facts))
    const isGrowing = file.state === 'growing'
    return {
      ...externalCandidate(summaryOf(file), own, holds.get(file.id)),
      usable: file.state === 'sound',
      inUse: isGrowing,
    }
  })
  return {
    backups,
    uncertain: new Set(files.filter(({ state }) => uncertainStates.has(state)).map(({ id }) => id)),
    files: new Map(
      files.map(({ id, name, facts }) => [
        id,
        { name, path: join(place.directory, name), identity: identityOf(facts) },
      ]),
    ),
  }
}
