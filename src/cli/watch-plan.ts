import type { WatchConfig } from '../config/validated.ts'
import type { RetentionPlan, RetentionPolicy, RetentionRefusal } from '../domain/retention.ts'
import { planUncertain } from '../domain/retention-uncertain.ts'
import { createExternalHolds } from '../observe/external-holds.ts'
import { createExternalProofs } from '../observe/external-proofs.ts'
import { type FilesSurvey, surveyForExpiry } from '../observe/external-survey.ts'
import type { History } from '../runner/history.ts'
import type { CliContext } from './command.ts'

/** What an expiry would do in a watched directory that has a policy, from a look at its files. */
export interface WatchPlan extends FilesSurvey {
  readonly plan: RetentionPlan
}

/** Where no sidecar has left anything behind, nobody has read a file: all are uncertain. */
const nothingKnown = {
  inspections: () => new Map<string, never>(),
  keepInspection: () => {},
  externalProofs: () => new Map<string, never>(),
  externalHolds: () => new Map<string, never>(),
}

/** @throws LifeboatError `storage-failed` when the directory cannot be read */
export async function planWatch(
  place: WatchConfig,
  policy: RetentionPolicy,
  { history, doubt }: { readonly history: History | null; readonly doubt: RetentionRefusal | null },
  { clock, signal, makeLog }: Pick<CliContext, 'clock' | 'signal' | 'makeLog'>,
): Promise<WatchPlan> {
  const store = history?.external ?? nothingKnown
  const proofs = createExternalProofs(store, makeLog('silent', 'err'))()
  const survey = await surveyForExpiry(place, { store, proofs, holds: createExternalHolds(store)(), clock, signal })
  const plan = planUncertain(
    { backups: survey.backups, policy, now: clock.now(), refusals: doubt === null ? [] : [doubt] },
    (id) => survey.uncertain.has(id),
  )
  return { ...survey, plan }
}
