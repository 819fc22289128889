import { clockToleranceMs } from '../domain/backup.ts'
import { standing } from '../domain/proof.ts'
import type { RetentionCandidate, RetentionPlan, RetentionPolicy, RetentionRefusal } from '../domain/retention.ts'
import { planUncertain } from '../domain/retention-uncertain.ts'
import { isSilent } from '../repository/in-progress.ts'
import type { BackupSummary, Catalog, HoldSummary, ProofSummary, RepositoryState, UseSummary } from './catalog.ts'
import type { WatchState } from './external-catalog.ts'

/** What a plan is made from, besides the policy and the time. */
export interface RetentionSurvey {
  readonly backups: readonly RetentionCandidate[]
  readonly refusals: readonly RetentionRefusal[]
}

/** What of other repositories must be known: a chain may lie in several. */
export type OtherBackups = Pick<RepositoryState, 'backups' | 'proofs'>

/** What one look at a repository, and at the others, tells about what may expire in it. */
export function surveyRetention(
  state: RepositoryState,
  isDead: (use: UseSummary) => boolean,
  others: readonly OtherBackups[] = [],
): RetentionSurvey {
  const inUse = new Set(state.uses.filter((use) => !isDead(use)).map(({ backupId }) => backupId))
  const invalid = state.unusable.filter((backup) => backup.state === 'invalid')
  const { neededElsewhere, soundElsewhere } = chainsAcross(state, others)
  const backups = state.backups.map((backup): RetentionCandidate => {
    const { id, type, database, systemIdentifier, timeline, lsn, consistentAt, finishedAt, parent } = backup
    return {
      id,
      type,
      database,
      systemIdentifier,
      timeline,
      lsn,
      consistentAt,
      finishedAt,
      parent,
      ...(neededElsewhere.has(id) ? { isNeededElsewhere: true } : {}),
      ...(parent !== null && soundElsewhere.has(parent) ? { isParentElsewhere: true } : {}),
      standing: state.unreadProofs.has(id) ? 'unknown' : standing(state.proofs.get(id)),
      usable: true,
      hold: state.holds.get(id) ?? null,
      lock: backup.lock ?? null,
      inUse: inUse.has(id),
    }
  })
  return { backups, refusals: invalid.length === 0 ? [] : [invalidManifests(invalid.map(({ id }) => id))] }
}

function chainsAcross({ backups }: RepositoryState, others: readonly OtherBackups[]) {
  const own = new Set(backups.map(({ id }) => id))
  const neededElsewhere = new Set<string>()
  const soundElsewhere = new Set<string>()
  for (const { backups: theirs, proofs } of others) {
    const there = new Set(theirs.map(({ id }) => id))
    for (const { id, parent, type } of theirs) {
      if (parent !== null && !there.has(parent) && own.has(parent)) neededElsewhere.add(parent)
      if (type !== 'dump' && !own.has(id) && standing(proofs.get(id)) !== 'refuted') soundElsewhere.add(id)
    }
  }
  return { neededElsewhere, soundElsewhere }
}

/** What a look at files of other tools tells: those of which nobody knows whether they can be restored are in `uncertain`. */
export interface WatchSurvey extends RetentionSurvey {
  readonly uncertain: ReadonlySet<string>
}

/** What one look at a watched directory tells about what may expire in it, of the files that are backups. */
export function surveyWatch({ backups, proofs, holds, details }: WatchState): WatchSurvey {
  const candidates = backups.map((backup) => externalCandidate(backup, proofs.get(backup.id), holds.get(backup.id)))
  const uncertain = backups.filter(({ id }) => details(id)?.state !== 'sound').map(({ id }) => id)
  return { backups: candidates, refusals: [], uncertain: new Set(uncertain) }
}

/** A file of another tool, of which nothing tells the place in the WAL or the cluster. */
export function externalCandidate(
  { id, type, database, consistentAt, finishedAt }: BackupSummary,
  proofs: readonly ProofSummary[] | undefined,
  hold: HoldSummary | undefined,
): RetentionCandidate {
  return {
    ...{ id, type, database, consistentAt, finishedAt },
    systemIdentifier: '',
    timeline: 0,
    lsn: null,
    parent: null,
    standing: standing(proofs),
    usable: true,
    hold: hold ?? null,
    inUse: false,
  }
}

/** What cannot be read may be the one backup that matters, and may be what others depend on. */
function invalidManifests(ids: readonly string[]): RetentionRefusal {
  const more = ids.length > 3 ? ` and ${ids.length - 3} more` : ''
  return {
    cause: 'manifest-invalid',
    message: `manifests cannot be read: ${ids.slice(0, 3).join(', ')}${more}`,
    hint: 'put a good manifest.json from another repository in place, or move these folders out of <cluster>/backups in the repository',
  }
}

/** The plans of all repositories and watched directories that were looked at, by name. */
export type RetentionPlans = ReadonlyMap<string, RetentionPlan>

export interface RetentionViewOptions {
  /** By the name of the repository or watched directory; one without a policy has no plan. */
  readonly policies: ReadonlyMap<string, RetentionPolicy>
  /** Whether the clock can be trusted, from when the backups were finished. */
  readonly clockDoubt: (traces: () => readonly Date[]) => RetentionRefusal | null
}

/** When the backups of a catalog were finished: traces of the time that has passed. */
export function tracesOf(repositories: readonly Pick<RepositoryState, 'backups'>[]): readonly Date[] {
  return repositories.flatMap(({ backups }) => backups.map(({ finishedAt }) => finishedAt))
}

/** What of a catalog the plans are made from. */
export type SeenBackups = Pick<Catalog, 'at' | 'repositories' | 'watches'>

interface Made {
  readonly state: RepositoryState | WatchState
  /** The backups of all repositories. */
  readonly others: readonly RepositoryState['backups'][]
  readonly doubt: RetentionRefusal | null
  readonly atMs: number
  readonly plan: RetentionPlan
}

/**
 * Makes the plans of one catalog after the other, and a plan anew only when what it is made from has changed: catalogs come
 * several times a second, and to plan for ten thousand backups each time would hold up the event loop for nothing.
 */
export function createRetentionView({
  policies,
  clockDoubt,
}: RetentionViewOptions): (catalog: SeenBackups) => RetentionPlans {
  let made = new Map<string, Made>()
  let last: { readonly catalog: SeenBackups; readonly plans: RetentionPlans } | null = null

  function planOf(
    state: RepositoryState | WatchState,
    catalog: SeenBackups,
    policy: RetentionPolicy,
    doubt: Made['doubt'],
  ): Made {
    const former = made.get(state.name)
    const others = catalog.repositories.map(({ backups }) => backups)
    const isSame = former?.others.length === others.length && former.others.every((one, index) => one === others[index])
    if (former !== undefined && isSame && isStillRight(former, state, catalog, doubt)) return former
    const survey =
      'files' in state
        ? surveyWatch(state)
        : {
            ...surveyRetention(
              state,
              ({ heartbeatAt }) => isSilent(heartbeatAt, catalog.at),
              catalog.repositories.filter((one) => one !== state),
            ),
            uncertain: new Set<string>(),
          }
    const refusals = doubt === null ? survey.refusals : [doubt, ...survey.refusals]
    const input = { backups: survey.backups, policy, now: catalog.at, refusals }
    const plan = planUncertain(input, (id) => survey.uncertain.has(id))
    return { state, others, doubt, atMs: catalog.at.getTime(), plan }
  }

  return (catalog) => {
    if (last?.catalog === catalog) return last.plans
    const doubt = clockDoubt(() => tracesOf(catalog.repositories))
    const next = new Map<string, Made>()
    for (const state of [...catalog.repositories, ...catalog.watches]) {
      const policy = policies.get(state.name)
      if (policy !== undefined) next.set(state.name, planOf(state, catalog, policy, doubt))
    }
    made = next
    last = { catalog, plans: new Map([...next].map(([name, { plan }]) => [name, plan])) }
    return last.plans
  }
}

/** As time passes backups grow too old, marks lapse and holds end: a little late is early enough for what is only shown. */
function isStillRight(
  former: Made,
  state: RepositoryState | WatchState,
  { at }: SeenBackups,
  doubt: Made['doubt'],
): boolean {
  const before = former.state
  return (
    before.backups === state.backups &&
    before.proofs === state.proofs &&
    before.holds === state.holds &&
    soundOf(before) === soundOf(state) &&
    sameIds(
      before.unusable.filter((one) => one.state === 'invalid').map(({ id }) => id),
      state.unusable.filter((one) => one.state === 'invalid').map(({ id }) => id),
    ) &&
    sameIds([...before.unreadProofs], [...state.unreadProofs]) &&
    sameIds(
      before.uses.map(({ key }) => key),
      state.uses.map(({ key }) => key),
    ) &&
    former.doubt?.cause === doubt?.cause &&
    Math.abs(at.getTime() - former.atMs) < clockToleranceMs
  )
}

/** What was read meanwhile is not uncertain any more, and is the same backup as before. */
function soundOf(state: RepositoryState | WatchState): number {
  return 'files' in state ? (state.files.get('sound') ?? 0) : 0
}

function sameIds(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index])
}
