import { clockToleranceMs } from '../domain/backup.ts'
import { standing } from '../domain/proof.ts'
import type { RetentionCandidate, RetentionPlan, RetentionPolicy, RetentionRefusal } from '../domain/retention.ts'
import { planUncertain } from '../domain/retention-uncertain.ts'
import { isSilent } from '../repository/in-progress.ts'
import type {
  BackupSummary,
  Catalog,
  CollectorState,
  HoldSummary,
  ProofSummary,
  RepositoryState,
  UnusableBackup,
  UseSummary,
} from './catalog.ts'
import type { WatchState } from './external-catalog.ts'
import { repositoryOfCollector } from './questions.ts'

/** What a plan is made from, besides the policy and the time. */
export interface RetentionSurvey {
  readonly backups: readonly RetentionCandidate[]
  readonly refusals: readonly RetentionRefusal[]
}

/** What of other repositories must be known: a chain may lie in several. */
export type OtherBackups = Pick<RepositoryState, 'backups' | 'proofs'>

/**
 * What one look at a repository, and at the others, tells about what may expire in it. `isPartUnseen`: some of the others cannot
 * be looked at, and what they hold may build on backups of this one.
 */
export function surveyRetention(
  state: RepositoryState,
  isDead: (use: UseSummary) => boolean,
  others: readonly OtherBackups[] = [],
  isPartUnseen = false,
): RetentionSurvey {
  const inUse = new Set(state.uses.filter((use) => !isDead(use)).map(({ backupId }) => backupId))
  const invalid = state.unusable.filter(isUnread)
  const damaged = state.unusable.flatMap(({ summary }) => summary ?? [])
  const { neededElsewhere, soundElsewhere } = chainsAcross(state, others)
  const candidate = (backup: BackupSummary, usable: boolean): RetentionCandidate => {
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
      ...(isPartUnseen && mayHaveIncrementals(backup) ? { mayBeNeededElsewhere: true } : {}),
      standing: state.unreadProofs.has(id) ? 'unknown' : standing(state.proofs.get(id)),
      ...(usable ? { usable } : { usable, isDamaged: true }),
      hold: state.holds.get(id) ?? null,
      lock: backup.lock ?? null,
      inUse: inUse.has(id),
    }
  }
  const backups = [
    ...state.backups.map((backup) => candidate(backup, true)),
    ...damaged.map((backup) => candidate(backup, false)),
  ]
  return { backups, refusals: invalid.length === 0 ? [] : [invalidManifests(invalid.map(({ id }) => id))] }
}

/** Its manifest cannot be read: what it is, and what it builds on, nobody knows. */
function isUnread({ state, summary }: UnusableBackup): boolean {
  return state === 'invalid' && summary === undefined
}

/** PostgreSQL 17 brought them. */
function mayHaveIncrementals({ type, serverVersion }: BackupSummary): boolean {
  const major = Number.parseInt(serverVersion, 10)
  return (type === 'full' || type === 'incremental') && !(major < 17)
}

function chainsAcross({ backups, unusable }: RepositoryState, others: readonly OtherBackups[]) {
  const own = new Set([...backups, ...unusable.flatMap(({ summary }) => summary ?? [])].map(({ id }) => id))
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
export function tracesOf(repositories: readonly Pick<RepositoryState, 'backups' | 'unusable'>[]): readonly Date[] {
  return repositories.flatMap(({ backups, unusable }) => [
    ...backups.map(({ finishedAt }) => finishedAt),
    ...unusable.flatMap(({ summary }) => summary?.finishedAt ?? []),
  ])
}

/** What of a catalog the plans are made from. */
export type SeenBackups = Pick<Catalog, 'at' | 'repositories' | 'watches'> & {
  /** Left out: all repositories were seen. */
  readonly collectors?: readonly Pick<CollectorState, 'collector' | 'success'>[]
}

/** Repositories of which it is not known what they hold now. */
function unseenIn({ collectors = [] }: SeenBackups): readonly string[] {
  return collectors.flatMap(({ collector, success }) =>
    success === true ? [] : (repositoryOfCollector(collector) ?? []),
  )
}

interface Made {
  readonly state: RepositoryState | WatchState
  /** The backups of all repositories. */
  readonly others: readonly RepositoryState['backups'][]
  readonly isPartUnseen: boolean
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
    const isPartUnseen = unseenIn(catalog).some((name) => name !== state.name)
    const areSame =
      former?.others.length === others.length && former.others.every((one, index) => one === others[index])
    const isSame = areSame && former?.isPartUnseen === isPartUnseen
    if (former !== undefined && isSame && isStillRight(former, state, catalog, doubt)) return former
    const survey =
      'files' in state
        ? surveyWatch(state)
        : {
            ...surveyRetention(
              state,
              ({ heartbeatAt }) => isSilent(heartbeatAt, catalog.at),
              catalog.repositories.filter((one) => one !== state),
              isPartUnseen,
            ),
            uncertain: new Set<string>(),
          }
    const refusals = doubt === null ? survey.refusals : [doubt, ...survey.refusals]
    const input = { backups: survey.backups, policy, now: catalog.at, refusals }
    const plan = planUncertain(input, (id) => survey.uncertain.has(id))
    return { state, others, isPartUnseen, doubt, atMs: catalog.at.getTime(), plan }
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
    sameIds(before.unusable.filter(isUnread).map(idOf), state.unusable.filter(isUnread).map(idOf)) &&
    sameIds(damagedIn(before), damagedIn(state)) &&
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

const idOf = ({ id }: { readonly id: string }) => id

function damagedIn({ unusable }: RepositoryState | WatchState): readonly string[] {
  return unusable.flatMap(({ summary }) => summary?.manifestChecksum ?? [])
}

function sameIds(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index])
}
