import type { MeasuredRestore } from '../domain/recovery-costs.ts'
import type { Run } from '../runner/job.ts'
import type { Catalog } from './catalog.ts'
import { planFrom, type RecoveryAnswer, type RecoveryClock, type RecoveryQuestion, seenSources } from './recovery.ts'
import { planFromAll } from './recovery-together.ts'

/** Plans recoveries by what is known, from memory. */
export interface RecoveryView {
  /** @throws LifeboatError `not-found` for a repository that there is not */
  readonly plan: (catalog: Catalog, question: RecoveryQuestion) => readonly RecoveryAnswer[]
  /** By repository, how long it would take to bring everything back, seconds; no entry where that is not known. */
  readonly predictedSeconds: (catalog: Catalog) => ReadonlyMap<string, number>
}

export interface RecoveryViewOptions {
  readonly clock: RecoveryClock | null
  /** Knows the restores that this host has done. */
  readonly runner: {
    list(filter: { readonly job: 'restore'; readonly state: 'succeeded'; readonly limit: number }): readonly Run[]
  }
}

const latest: RecoveryQuestion = { target: { kind: 'latest' }, timeline: null, repository: null, backup: null }

export function createRecoveryView({ clock, runner }: RecoveryViewOptions): RecoveryView {
  // A state file that cannot be read must keep neither plans nor metrics from being told.
  const measured = () => {
    try {
      return measuredRestores(runner)
    } catch {
      return []
    }
  }
  const sources = (catalog: Catalog, { repository }: RecoveryQuestion) =>
    seenSources(catalog, repository, { clock, restores: measured() })
  return {
    plan: (catalog, question) => planFromAll(sources(catalog, question), question),
    predictedSeconds: (catalog) =>
      new Map(
        sources(catalog, latest).flatMap((source) => {
          const { repository, costs } = planFrom(source, latest)
          const seconds = costs?.time.seconds ?? null
          return seconds === null ? [] : [[repository, seconds] as const]
        }),
      ),
  }
}

/** The newest physical restores of this host that say how long they took. */
export function measuredRestores(runner: RecoveryViewOptions['runner']): readonly MeasuredRestore[] {
  return runner
    .list({ job: 'restore', state: 'succeeded', limit: 20 })
    .flatMap(({ items }) =>
      items.flatMap(({ backupId, finishedAt, measured }) =>
        measured === undefined || backupId === undefined
          ? []
          : [{ backup: backupId, at: new Date(finishedAt), ...measured }],
      ),
    )
}
