import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { findArtifact, type Manifest } from '../domain/backup.ts'
import { majorOf } from '../domain/chain.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { RecoveryCosts } from '../domain/recovery-costs.ts'
import type { RecoveryPlan } from '../domain/recovery-plan.ts'
import { type RestoreWish, restoreParams, wishOf } from '../domain/restore-wish.ts'
import type { RecoveryAnswer, RecoveryQuestion } from '../observe/recovery.ts'
import type { OfflinePlans } from '../observe/recovery-offline.ts'
import { furthest } from '../observe/recovery-together.ts'
import type { ChainMember } from '../physical/materialize.ts'
import { incompleteMarker } from '../physical/places.ts'
import { type RestoreMark, readMark } from '../physical/restore-mark.ts'
import {
  assertFree,
  assertMayMake,
  assertRoom,
  type DiskRoom,
  type PreciousPlace,
  roomOn,
} from '../physical/restore-places.ts'
import { withSession } from '../postgres/connection.ts'
import { chooseServer, findInstallations, type Installation } from '../postgres/installations.ts'
import { physicalFacts } from '../postgres/physical-facts.ts'
import type { OsUser } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import type { Run } from '../runner/job.ts'
import { canonicalParams } from '../runner/params.ts'
import type { LiveServer } from './newest-dumps.ts'
import { ownerOf } from './restore-cluster-owner.ts'
import { readMembers } from './restore-members.ts'

export interface ClusterRestoreOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  /** The server that is looked after; null when it cannot be asked. */
  readonly server: (signal: AbortSignal) => Promise<LiveServer | null>
  /** Plans from the repositories themselves. */
  readonly plan: (question: RecoveryQuestion, signal: AbortSignal) => Promise<OfflinePlans>
  readonly run: (runId: string) => Run | null
  /** The command line that starts Lifeboat. */
  readonly program: readonly string[]
}

/** All that is known before anything is written. */
export interface PreparedRestore {
  readonly answer: RecoveryAnswer
  readonly plan: RecoveryPlan
  readonly costs: RecoveryCosts | null
  readonly chain: readonly ChainMember[]
  /** The backup that is restored: the last of the chain. */
  readonly manifest: Manifest
  readonly tablespaces: ReadonlyMap<number, string>
  readonly installation: Installation
  readonly owner: OsUser | null
  /** That could be looked at, and are asked for WAL. */
  readonly sources: readonly Repository[]
  readonly disks: readonly DiskRoom[]
  readonly warnings: readonly string[]
  /** What an earlier run of the same wish has left; null: nothing. */
  readonly left: RestoreMark | null
}

/**
 * Finds out how a cluster is restored, and whether it can be where somebody wants it. Nothing is written.
 *
 * @throws LifeboatError `not-recoverable`, `not-found`, `usage-invalid`, `conflict`, `disk-full`, `program-missing`; what the
 * repositories fail with
 */
export async function prepareClusterRestore(
  options: ClusterRestoreOptions,
  wish: RestoreWish,
  { signal, format }: { readonly signal: AbortSignal; readonly format: (bytes: number) => string },
): Promise<PreparedRestore> {
  const left = await leftOf(options, wish)
  const precious = await preciousPlaces(options, signal)
  if (left === null) await assertFree(wish.to, precious)
  if (left === null) await assertMayMake(wish.to)
  const { answer, sources, failed } = await planWish(options, wish, { left, signal })
  const { plan, costs } = answer
  if (plan === null) throw refusal(answer)
  if (wish.target.kind === 'latest' && !wish.missingIsEnd && answer.missing.length > 0)
    throw new LifeboatError(
      'not-recoverable',
      `WAL is missing, and there is more after that: ${answer.warnings.find(({ code }) => code === 'ends-at-hole')?.message ?? 'see lifeboat wal gaps'}`,
      { hint: 'find the missing segments; or say --missing-is-end to restore what comes before them' },
    )
  const chain = await readMembers(plan, answer.repository, {
    config: options.config,
    repositories: options.repositories.filter(({ name }) => !failed.includes(name)),
    signal,
  })
  const manifest = (chain.at(-1) as ChainMember).manifest
  const tablespaces = mapTablespaces(manifest, wish)
  if (left === null)
    for (const path of tablespaces.values()) {
      await assertFree(path, precious)
      await assertMayMake(path)
    }
  const installation = chooseServer(await findInstallations(options.config.postgres.binDir), majorOf(manifest))
  const disks =
    left?.phase === 'recovery' || costs === null ? [] : await roomOn(roomNeeded(wish, chain, { tablespaces, costs }))
  if (left === null) assertRoom(disks, format)
  const names = new Set(sources)
  return {
    ...{ answer, plan, costs, chain, manifest, tablespaces, installation, disks, left },
    owner: await ownerOf(wish),
    sources: options.repositories.filter(({ name }) => names.has(name)),
    warnings: answer.warnings.map(({ message }) => message),
  }
}

/** What was left by a run that is over and wanted the same; everything else is not ours to go on with. */
async function leftOf({ run }: ClusterRestoreOptions, wish: RestoreWish): Promise<RestoreMark | null> {
  const mark = await readMark(wish.to)
  if (mark === null) return null
  const former = run(mark.runId)
  const places = wish.tablespaces.map(([, place]) => place)
  const isOfWish = former !== null && sameWish(former, wish) && sameMembers(mark.tablespaces, places)
  if (isOfWish && former.finishedAt !== null) return mark
  throw new LifeboatError(
    'conflict',
    `${wish.to} is what a restore has left that was cut off${former === null ? '' : `, the run ${mark.runId}`}`,
    {
      hint:
        former !== null && former.finishedAt === null
          ? `it is under way: wait for it, or cancel it: Ctrl-C where it runs, or DELETE /api/runs/${mark.runId}`
          : `only the same command goes on with it, from the same state directory; or see ${incompleteMarker} in it, which says what to remove`,
    },
  )
}

function sameMembers(some: readonly string[], others: readonly string[]): boolean {
  return JSON.stringify(some.toSorted()) === JSON.stringify(others.toSorted())
}

function sameWish({ job, params }: Run, wish: RestoreWish): boolean {
  const former = job === 'restore' ? wishOf(params) : null
  return former !== null && canonicalParams(restoreParams(former)) === canonicalParams(restoreParams(wish))
}

/** What was cut off in its recovery goes on from its own backup, though there may be a newer one by now. */
async function planWish(
  options: ClusterRestoreOptions,
  wish: RestoreWish,
  { left, signal }: { readonly left: RestoreMark | null; readonly signal: AbortSignal },
): Promise<{
  readonly answer: RecoveryAnswer
  readonly sources: readonly string[]
  /** That could not be looked at. */
  readonly failed: readonly string[]
}> {
  if (wish.backup === null && left !== null && left.backupId !== null) {
    const found = await planWish(options, { ...wish, backup: left.backupId }, { left: null, signal })
    if (found.answer.plan !== null) return found
  }
  const { target, timeline, repository, backup, systemIdentifier } = wish
  const question = { target, timeline, repository, backup, systemIdentifier }
  let plans = await options.plan(question, signal)
  if (systemIdentifier === null && backup === null) {
    const known = systemsIn(plans)
    if (known.length > 1) {
      const live = await options.server(signal)
      if (live === null || !known.includes(live.systemIdentifier))
        throw new LifeboatError('usage-invalid', `there are backups of several clusters: ${known.join(', ')}`, {
          hint: 'the server cannot be asked which is meant: say it with --system-identifier, or name the backup',
        })
      plans = await options.plan({ ...question, systemIdentifier: live.systemIdentifier }, signal)
    }
  }
  const sources = plans.sources.map((one) => one.repository.name)
  const failed = plans.failures.map(({ repository }) => repository)
  const answer = furthest(plans.answers) ?? plans.answers[0]
  if (answer !== undefined) return { answer, sources, failed }
  const [first] = plans.failures
  throw new LifeboatError(
    first?.failure.code ?? 'not-recoverable',
    first === undefined ? 'there is no repository' : `${first.repository}: ${first.failure.message}`,
    first?.failure.hint === undefined ? {} : { hint: first.failure.hint },
  )
}

/** The clusters of which there are physical backups. */
function systemsIn({ sources }: OfflinePlans): readonly string[] {
  const all = sources.flatMap(({ repository }) =>
    repository.backups
      .filter(({ type }) => type === 'full' || type === 'incremental')
      .map((backup) => backup.systemIdentifier),
  )
  return [...new Set(all)].toSorted()
}

function refusal({ refused, repository }: RecoveryAnswer): LifeboatError {
  const { code, message, hint } = refused ?? { code: 'not-recoverable' as const, message: 'there is no plan' }
  return new LifeboatError(code, `${repository}: ${message}`, hint === undefined ? {} : { hint })
}

function mapTablespaces({ backupId, physical }: Manifest, wish: RestoreWish): ReadonlyMap<number, string> {
  const known = physical?.tablespaces ?? []
  const places = new Map<number, string>()
  for (const [old, place] of wish.tablespaces) {
    const found = known.find(({ oid, path }) => path === old || String(oid) === old)
    if (found === undefined)
      throw new LifeboatError('usage-invalid', `${backupId} has no tablespace in ${JSON.stringify(old)}`, {
        hint: known.length === 0 ? 'it has none besides the default ones' : `it has: ${listed(known)}`,
      })
    if (places.has(found.oid)) throw new LifeboatError('usage-invalid', `the tablespace ${found.oid} is mapped twice`)
    places.set(found.oid, place)
  }
  const left = known.filter(({ oid }) => !places.has(oid))
  if (left.length === 0) return places
  throw new LifeboatError('usage-invalid', `${backupId} has tablespaces that need a new place: ${listed(left)}`, {
    hint: left.map(({ oid, path }) => `--tablespace-map ${path ?? oid}=NEW-DIRECTORY`).join(' '),
  })
}

function listed(tablespaces: readonly { readonly oid: number; readonly path: string | null }[]): string {
  return tablespaces.map(({ oid, path }) => (path === null ? String(oid) : `${path} (${oid})`)).join(', ')
}

function roomNeeded(
  wish: RestoreWish,
  chain: readonly ChainMember[],
  { tablespaces, costs }: { readonly tablespaces: ReadonlyMap<number, string>; readonly costs: RecoveryCosts },
) {
  const elsewhere = [...tablespaces].map(([oid, path]) => {
    const sizes = chain.map(({ manifest }) => {
      const name = manifest.physical?.tablespaces.find((one) => one.oid === oid)?.artifact
      return name === undefined ? 0 : (findArtifact(manifest, name)?.plain.bytes ?? 0)
    })
    return { path, bytes: Math.max(0, ...sizes) }
  })
  const rest = elsewhere.reduce((sum, { bytes }) => sum - bytes, costs.disk.peak)
  return [{ path: wish.to, bytes: Math.max(0, rest) }, ...elsewhere]
}

/** Where nothing may be restored. A server on another machine may have a directory of the same name. */
async function preciousPlaces(
  { config }: ClusterRestoreOptions,
  signal: AbortSignal,
): Promise<readonly PreciousPlace[]> {
  const { wal, repositories, watch, stateDir, postgres } = config
  const isHere = /^(?:\/|localhost$|127\.|::1$)/.test(postgres.host)
  const facts = isHere
    ? await withSession(postgres, { database: postgres.maintenanceDatabase, signal }, physicalFacts).catch(() => null)
    : null
  signal.throwIfAborted()
  return [
    ...(facts?.dataDirectory == null ? [] : [{ path: facts.dataDirectory, what: 'the data directory of the server' }]),
    ...(facts?.tablespaces ?? []).map(({ path }) => ({ path, what: 'a tablespace of the server' })),
    ...(wal.archive === null ? [] : [{ path: wal.archive, what: 'the archive of the WAL' }]),
    ...repositories.flatMap(({ path, name }) => (path === null ? [] : [{ path, what: `the repository ${name}` }])),
    ...watch.map(({ directory, name }) => ({ path: directory, what: `the watched directory ${name}` })),
    { path: stateDir, what: 'the state directory' },
  ]
}

export function socketDirectoryOf(folder: string): string | null {
  const path = join(folder, 's')
  // `/.s.PGSQL.5432` comes after it, and 107 bytes are the limit; a comma separates hosts for libpq.
  return Buffer.byteLength(path) <= 90 && !path.includes(',') ? path : null
}
