import { join } from 'node:path'
import type { Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { HashedArtifact, LevelResult, RestoredCluster, VerificationLevel } from '../domain/proof.ts'
import type { Materialized } from '../physical/materialize.ts'
import { chooseServer, findInstallations } from '../postgres/installations.ts'
import { makeOwned } from '../postgres/scratch-directory.ts'
import { LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { type PhysicalScratchOptions, replayInScratch, unpackChain } from './physical-scratch.ts'
import { assertAfterBackup, planReplay } from './replay-plan.ts'
import { scratchAccount } from './scratch-account.ts'
import { isOfKeys, unseal } from './unseal.ts'
import type { VerifyBackupOptions } from './verify-backup.ts'
import { readChain, type SeenMember } from './verify-chain.ts'
import { verifyCluster } from './verify-cluster.ts'
import {
  type CheckedMember,
  entryOf,
  faultOf,
  type MemberOptions,
  verifyMembers,
  verifyOthers,
} from './verify-members.ts'
import { type SeenManifest, withLater } from './verify-unchanged.ts'

/** What was found about a backup that this one builds on. */
export interface SeenParent {
  readonly seen: SeenManifest
  readonly hashed: readonly HashedArtifact[]
  /** Its own level `artifact`, where that failed: all that build on it fail with it. */
  readonly fault: LevelResult | null
}

export interface SeenPhysical {
  readonly hashed: readonly HashedArtifact[]
  readonly parents: readonly SeenParent[]
  readonly restored: RestoredCluster | null
}

type Levels = Partial<Record<VerificationLevel, LevelResult>>

/** Verifies a physical backup and the ones that it builds on, up to the level asked for. */
export async function verifyPhysical(
  options: VerifyBackupOptions & Pick<MemberOptions, 'earlier'>,
  seen: SeenManifest,
  {
    levels,
    phases,
    artifacts,
  }: { readonly levels: Levels; readonly phases: Phases; readonly artifacts: LevelRecorder },
): Promise<SeenPhysical> {
  const { config, repository, folder, signal, level, clock, target } = options
  assertAfterBackup(seen.manifest, target)
  const beganAt = clock.monotonic()
  const chain = await artifacts.look('chain', 'chain-broken', signal, () =>
    readChain(repository, seen, signal, options.others),
  )
  const opened = await openChain(options, chain ?? [])
  if (chain !== null) artifacts.pass('chain', chain.map(({ manifest }) => manifest.backupId).join(', '))
  const place = join(folder, 'scratch')
  const means =
    chain === null
      ? null
      : await artifacts.look('programs', 'program-missing', signal, async () => {
          const major = Math.floor(seen.manifest.serverVersionNum / 10_000)
          const installation = chooseServer(await findInstallations(config.postgres.binDir), major)
          // Where the tablespaces of the server are, if it is on this machine.
          const others = tablespacePlaces(opened.chain)
          const account = await scratchAccount(config, [folder, installation.directory], signal, others)
          await makeOwned(place, account.osUser)
          return { installation, account }
        })
  if (chain === null || means === null) {
    levels.artifact = artifacts.result()
    return { hashed: [], parents: [], restored: null }
  }
  const scratch = { ...options, ...means, chain, place, phases }
  const found = new Findings(chain, artifacts)
  const members = () =>
    phases.time('artifacts', () =>
      verifyMembers({
        ...{ repository, chain, clock, signal, folder: place, rehash: options.rehash },
        ...{ encryption: config.encryption, isOpen: opened.closed === null },
        ...{ installation: means.installation, owner: means.account.osUser },
        reproofSeconds: config.verification.reproofSeconds,
        earlier: options.earlier,
        onBytes: bytesOf(chain, (ratio) => options.onProgress(ratio, 'reading')),
      }),
    )
  const restoring = new LevelRecorder(clock)
  if (level === 'artifact' || opened.closed !== null) {
    found.take(await members())
    levels.artifact = artifacts.result()
    if (level !== 'artifact' && levels.artifact.verdict === 'pass') {
      await restoring.look('decrypt', 'artifact-unreadable', signal, () => Promise.reject(opened.closed))
      levels.restore = restoring.result()
    }
    return { ...found.all(), restored: null }
  }

  // A history that nobody can read is none of the backup's.
  const look = () => planReplay(repository, chain.at(-1)?.manifest ?? never(), target, signal)
  const plan = await restoring.look('wal', 'wal-unknown', signal, look, 'inconclusive')
  const made = plan === null ? null : await tryUnpacking(within(scratch, [0, 0.5]), plan)
  if (made === null || 'error' in made) {
    const fault = made === null ? null : faultOf(made.error)
    if (made !== null && (signal.aborted || fault !== null)) await found.blame(made.error, signal)
    else found.take(await members())
    levels.artifact = artifacts.result()
    if (levels.artifact.verdict === 'pass' && made !== null)
      await restoring.look('unpack', 'combine-failed', signal, () => Promise.reject(made.error))
    if (levels.artifact.verdict === 'pass') levels.restore = restoring.result()
    return { ...found.all(), restored: null }
  }
  await found.unpacked(made, scratch)
  levels.artifact = artifacts.result()
  if (plan === null || levels.artifact.verdict !== 'pass') return { ...found.all(), restored: null }
  if (chain.length > 1) restoring.pass('combine', `${chain.length} backups`)

  const copy = await replayInScratch(within(scratch, [0.5, 0.7]), { plan, made, beganAt }, restoring)
  levels.restore = restoring.result()
  if (copy === null) return { ...found.all(), restored: null }
  try {
    if (level === 'data') {
      const data = new LevelRecorder(clock)
      await verifyCluster(
        {
          copy: { ...copy.copy, database: 'template1' },
          ...{ phases, signal, jobs: config.verification.jobs, assertions: config.verification.assertions },
          onDatabase: (name, ratio) => options.onProgress(0.7 + 0.2 * ratio, `looking into ${name}`),
        },
        data,
      )
      levels.data = data.result()
    }
    options.onProgress(0.9, 'checking pages')
    const last = new LevelRecorder(clock)
    await copy.checkPages(last)
    levels.restore = withLater(levels.restore, last.result())
    return { ...found.all(), restored: copy.restored }
  } finally {
    await copy.close()
  }
}

/** The chain with what its manifests keep to themselves, as far as that can be had; and why the identities do not open it. */
async function openChain(
  options: VerifyBackupOptions,
  chain: readonly SeenMember[],
): Promise<{ readonly chain: readonly Manifest[]; readonly closed: LifeboatError | null }> {
  const { config, repository, signal } = options
  const opened: Manifest[] = []
  let closed: LifeboatError | null = null
  for (const { manifest } of chain) {
    try {
      opened.push(await unseal(config.encryption, manifest, { repositories: [repository], signal }))
    } catch (error) {
      signal.throwIfAborted()
      if (isOfKeys(error)) closed ??= error
      // What is wrong with what is stored is for the artifacts to show.
    }
  }
  return { chain: opened, closed }
}

function tablespacePlaces(chain: readonly Manifest[]): readonly string[] {
  const places = chain.at(-1)?.physical?.tablespaces ?? []
  return places.flatMap(({ path }) => (path === null ? [] : [path]))
}

/** Gives the error as a value. What the signal's reason says is for the recorders. */
async function tryUnpacking(
  scratch: PhysicalScratchOptions,
  plan: Parameters<typeof unpackChain>[1],
): Promise<Materialized | { readonly error: unknown }> {
  try {
    return await unpackChain(scratch, plan)
  } catch (error) {
    if (error instanceof LifeboatError || error instanceof VerdictError || scratch.signal.aborted) return { error }
    throw error
  }
}

/** What is found about the members of a chain, one recorder for the level `artifact` of the last one. */
class Findings {
  readonly #chain: readonly SeenMember[]
  readonly #recorder: LevelRecorder
  readonly #hashed = new Map<string, readonly HashedArtifact[]>()
  readonly #faults = new Map<string, LevelResult>()

  constructor(chain: readonly SeenMember[], recorder: LevelRecorder) {
    this.#chain = chain
    this.#recorder = recorder
  }

  /** Each was looked at by itself. */
  take(checked: readonly CheckedMember[]): void {
    for (const { member, hashed, result } of checked) {
      const { backupId } = member.manifest
      this.#hashed.set(backupId, hashed)
      for (const check of result.checks)
        this.#recorder.add({ ...check, name: `${check.name}${this.#of(backupId)}` }, result.cause)
      if (result.verdict === 'fail') this.#faults.set(backupId, result)
    }
  }

  /** All were unpacked, and found to be sound. */
  async unpacked({ hashed }: Materialized, scratch: PhysicalScratchOptions): Promise<void> {
    for (const member of this.#chain) {
      const { backupId } = member.manifest
      const recorder = new LevelRecorder(scratch.clock)
      const own = hashed.filter((entry) => entry.backupId === backupId).map(entryOf)
      for (const { name } of own) recorder.pass(`checksum ${name}`)
      recorder.pass('pg_verifybackup')
      const others = await verifyOthers({ ...scratch, onBytes: () => {} }, member, recorder)
      this.take([{ member, hashed: [...own, ...others], result: recorder.result() }])
    }
  }

  /** One of them is why nothing could be unpacked, or the time is over. */
  async blame(error: unknown, signal: AbortSignal): Promise<void> {
    const fault = faultOf(error)
    if (fault === null || signal.aborted) {
      await this.#recorder.look('unpack', 'artifact-unreadable', signal, () => Promise.reject(error))
      return
    }
    const { backupId, cause, check } = fault
    const detail = (error as Error).message
    this.#recorder.add({ name: `${check}${this.#of(backupId)}`, verdict: 'fail', detail }, cause)
    const result = this.#recorder.result()
    this.#faults.set(backupId, { ...result, cause, checks: [{ name: check, verdict: 'fail', detail }] })
  }

  all(): Pick<SeenPhysical, 'hashed' | 'parents'> {
    const own = this.#chain.at(-1)?.manifest.backupId ?? ''
    return {
      hashed: this.#hashed.get(own) ?? [],
      parents: this.#chain.slice(0, -1).map((seen) => ({
        seen,
        hashed: this.#hashed.get(seen.manifest.backupId) ?? [],
        fault: this.#faults.get(seen.manifest.backupId) ?? null,
      })),
    }
  }

  #of(backupId: string): string {
    return backupId === this.#chain.at(-1)?.manifest.backupId ? '' : ` of ${backupId}`
  }
}

/** The same, with progress that goes from one part of the whole to another. */
function within(scratch: PhysicalScratchOptions, [from, to]: readonly [number, number]): PhysicalScratchOptions {
  const { onProgress } = scratch
  return { ...scratch, onProgress: (ratio, message) => onProgress(from + (to - from) * ratio, message) }
}

function bytesOf(chain: readonly SeenMember[], tell: (ratio: number) => void): (bytes: number) => void {
  const all = chain.flatMap(({ manifest }) => manifest.artifacts)
  const total = Math.max(
    1,
    all.reduce((sum, { stored }) => sum + stored.bytes, 0),
  )
  let done = 0
  return (bytes) => {
    done += bytes
    tell(Math.max(0, Math.min(1, done / total)))
  }
}

function never(): never {
  throw new Error('unreachable: a chain has the backup itself')
}
