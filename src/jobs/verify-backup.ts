import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type BackupType, isEncrypted, type Manifest, parseBackupId } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { HashedArtifact, LevelResult, Proof, VerificationLevel } from '../domain/proof.ts'
import { findInstallations } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { cleanEnvironment } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import { discreet } from './discreet.ts'
import { parseFingerprint } from './fingerprint-artifact.ts'
import { LevelRecorder } from './level-recorder.ts'
import { Phases } from './phases.ts'
import type { ReplayTarget } from './replay-target.ts'
import { removeScratch, restoreIntoScratch } from './scratch-restore.ts'
import { withinTime } from './target-time.ts'
import { isOfKeys, unseal } from './unseal.ts'
import { type FetchedArtifacts, verifyArtifacts } from './verify-artifacts.ts'
import { verifyData } from './verify-data.ts'
import { type SeenPhysical, verifyPhysical } from './verify-physical.ts'
import { assertHeld, assertUnchanged, type SeenManifest, withLater } from './verify-unchanged.ts'

export interface VerifyBackupOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** Milliseconds that the look at it may take. */
  readonly limitMs: number
  /** Lifeboat's own version, for the proof. */
  readonly version: string
  readonly repository: Repository
  /** Other ones, where what it builds on may be. */
  readonly others?: readonly Repository[]
  readonly backupId: string
  readonly level: VerificationLevel
  readonly rehash: boolean
  /** Of a physical backup: how far to replay beyond its end; null: not. */
  readonly target: ReplayTarget | null
  /** Work folder of this backup alone; made by the caller, who removes it. */
  readonly folder: string
  readonly onProgress: (ratio: number, message: string) => void
}

/** A backup and what was found about it; its proof as this machine may know it. */
export interface VerifiedBackup {
  readonly manifest: Manifest | null
  readonly proof: Proof
}

/**
 * Verifies one backup in one repository up to the level asked for, and publishes the verdict there as a proof. Ends at
 * the first level that does not pass: what lies deeper could not be trusted. One that takes too long is `inconclusive`.
 *
 * @throws LifeboatError `manifest-missing` when there is no such backup; the signal's reason
 */
export async function verifyBackup(options: VerifyBackupOptions): Promise<VerifiedBackup> {
  const { clock, repository, backupId, signal } = options
  const startedAt = clock.now().toISOString()
  const phases = new Phases(clock)
  const levels: Partial<Record<VerificationLevel, LevelResult>> = {}
  const found = await withinTime({ clock, ms: options.limitMs, signal }, (limited) =>
    verifyLevels({ ...options, signal: limited }, levels, phases),
  )
  signal.throwIfAborted()
  const { seen, parents = [], restored = null } = found
  if (seen !== null && levels.artifact?.verdict === 'pass') {
    const last = new LevelRecorder(clock)
    for (const one of [...parents, { seen, hashed: found.hashed }]) {
      const look = () => assertUnchanged(repository, one.seen, one.hashed, signal)
      if ((await last.look('unchanged', 'artifact-changed', signal, look)) === 'removed') {
        await repository.readManifest(one.seen.manifest.backupId, { signal }) // says that it is missing
      }
    }
    if (last.verdict !== 'pass') levels.artifact = withLater(levels.artifact, last.result())
  }
  signal.throwIfAborted()
  const common = { startedAt, finishedAt: clock.now().toISOString(), lifeboat: options.version }
  // What builds on it is not all that cannot be restored.
  for (const { seen: parent, fault } of parents) {
    if (fault === null) continue
    const { backupId, checksum, serverVersion } = parent.manifest
    const about = { backupId, manifestChecksum: checksum, serverVersion, hashed: [], phases: {} }
    await repository.publishProof({ ...common, ...about, level: 'artifact', levels: { artifact: fault } })
    options.log.error({ refuted: backupId, cause: fault.cause }, 'a backup that it builds on is refuted')
  }
  const proof = await repository.publishProof({
    ...common,
    backupId,
    manifestChecksum: seen?.manifest.checksum ?? '',
    level: options.level,
    levels: seen !== null && isEncrypted(seen.manifest) ? discreet(levels) : levels,
    hashed: found.hashed,
    phases: phases.seconds(),
    ...(restored === null ? {} : { restored }),
    serverVersion: seen?.manifest.serverVersion ?? '',
  })
  return { manifest: seen?.manifest ?? null, proof: { ...proof, levels } }
}

async function verifyLevels(
  options: VerifyBackupOptions,
  levels: Partial<Record<VerificationLevel, LevelResult>>,
  phases: Phases,
): Promise<{ readonly seen: SeenManifest | null; readonly hashed: readonly HashedArtifact[] } & Partial<SeenPhysical>> {
  const { config, clock, log, signal, folder, level, onProgress } = options
  const artifacts = new LevelRecorder(clock)
  const seen = await readManifest(options, artifacts)
  if (seen === null) {
    levels.artifact = artifacts.result()
    return { seen, hashed: [] }
  }
  const { manifest } = seen
  if (manifest.physical !== undefined) {
    const earlier = (id: string) => earlierProof(options, id)
    return { seen, ...(await verifyPhysical({ ...options, earlier }, seen, { levels, phases, artifacts })) }
  }
  const installations = await findInstallations(config.postgres.binDir)
  const closed = await tryOpening(options, manifest)
  const isOpen = closed === null
  const fetched = await phases.time('fetch', () => fetch(options, { manifest, isOpen }, installations, artifacts))
  levels.artifact = artifacts.result()
  const hashed = fetched?.hashed ?? []
  if (fetched === null || level === 'artifact') return { seen, hashed }

  const restoring = new LevelRecorder(clock)
  if (closed !== null) {
    await restoring.look('decrypt', 'artifact-unreadable', signal, () => Promise.reject(closed))
    levels.restore = restoring.result()
    return { seen, hashed }
  }
  if (fetched.directory === null) return { seen, hashed }
  const fingerprint = await restoring.look('fingerprint', 'fingerprint-invalid', signal, async () => {
    assertHeld(manifest, fetched)
    return parseFingerprint(fetched.files)
  })
  onProgress(0.3, 'restoring')
  const sizes = new Map(fingerprint?.tables.map(({ schema, name, bytes }) => [`${schema}.${name}`, bytes]))
  const total = Math.max(
    1,
    [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0),
  )
  let restored = 0
  const copy =
    restoring.verdict === 'pass'
      ? await restoreIntoScratch(
          {
            config,
            clock,
            manifest,
            folder,
            installations,
            phases,
            log,
            signal,
            fingerprint,
            directory: fetched.directory,
            globals: fetched.files.get('globals.sql') ?? '',
            onTable: (table) => {
              onProgress(0.3 + 0.4 * Math.min(1, restored / total), `restoring ${table}`)
              restored += sizes.get(table) ?? 0
            },
          },
          restoring,
        )
      : null
  try {
    levels.restore = restoring.result()
    if (copy === null || level === 'restore') return { seen, hashed }
    onProgress(0.7, 'comparing')
    const data = new LevelRecorder(clock)
    await verifyData(
      {
        copy,
        folder,
        fingerprint,
        phases,
        signal,
        directory: fetched.directory,
        jobs: config.verification.jobs,
        assertions: config.verification.assertions.filter(({ database }) => database === copy.database),
      },
      data,
    )
    levels.data = data.result()
    return { seen, hashed }
  } finally {
    if (copy !== null) await removeScratch(copy.server, log)
  }
}

/** A manifest that cannot be trusted is the backup's fault; a repository that cannot be read is not. */
async function readManifest(
  { repository, backupId, signal }: VerifyBackupOptions,
  recorder: LevelRecorder,
): Promise<SeenManifest | null> {
  try {
    const read = await repository.readManifestObject(backupId, { signal })
    if ('problem' in read) throw read.problem
    recorder.pass('manifest')
    return { manifest: read.manifest, version: read.info.version }
  } catch (error) {
    const { code } = toFailure(error)
    if (code === 'manifest-missing' || code === 'not-found' || code === 'usage-invalid') throw error
    await recorder.look('manifest', 'manifest-invalid', signal, () => Promise.reject(error))
    return null
  }
}

async function fetch(
  options: VerifyBackupOptions,
  { manifest, isOpen }: { readonly manifest: Manifest; readonly isOpen: boolean },
  installations: Awaited<ReturnType<typeof findInstallations>>,
  recorder: LevelRecorder,
): Promise<FetchedArtifacts | null> {
  const { config, clock, repository, folder, signal, level, rehash } = options
  const total = Math.max(
    1,
    manifest.artifacts.reduce((sum, { stored }) => sum + stored.bytes, 0),
  )
  let done = 0
  return verifyArtifacts(
    {
      repository,
      manifest,
      folder,
      installations,
      clock,
      signal,
      rehash,
      env: cleanEnvironment({ [workMarker]: folder }),
      earlier: await earlierProof(options, manifest.backupId),
      reproofSeconds: config.verification.reproofSeconds,
      encryption: config.encryption,
      isOpen,
      unpack: level !== 'artifact' && isOpen,
      onBytes: (bytes) => {
        done += bytes
        options.onProgress(0.3 * Math.min(1, done / total), 'reading')
      },
    },
    recorder,
  )
}

/**
 * Whether the identities open a backup: null, or why they do not. What is wrong with what is stored is for the artifacts to
 * show.
 */
async function tryOpening(
  { config, repository, signal }: VerifyBackupOptions,
  manifest: Manifest,
): Promise<LifeboatError | null> {
  try {
    await unseal(config.encryption, manifest, { repositories: [repository], signal })
  } catch (error) {
    signal.throwIfAborted()
    if (isOfKeys(error)) return error
  }
  return null
}

/** A proof that cannot be read vouches for nothing: everything is hashed again. */
async function earlierProof({ repository, signal, log }: VerifyBackupOptions, backupId: string): Promise<Proof | null> {
  try {
    return await repository.latestProof(backupId, { signal })
  } catch (error) {
    if (signal.aborted) return null // the next look says why
    if (toFailure(error).code !== 'proof-invalid') throw error
    log.warn(toFailure(error), 'the last proof cannot be read: everything is hashed again')
    return null
  }
}

/** What the verdict of a proof means for the run that gave it. The same id in another repository may well be good. */
export function proofFailure(
  { proof }: VerifiedBackup,
  verdict: 'fail' | 'inconclusive',
  { database, repository }: { readonly database: string; readonly repository: string },
): LifeboatError {
  const [level, result] = Object.entries(proof.levels).find(([, one]) => one.verdict === verdict) as [
    string,
    LevelResult,
  ]
  const check = result.checks.find((one) => one.verdict === verdict)
  const of = database === '' ? '' : ` of ${JSON.stringify(database)}`
  const words = `${proof.backupId}${of} in ${repository}: ${level} verification ${verdict === 'fail' ? 'failed' : 'was inconclusive'}: ${result.cause} (${check?.name}: ${check?.detail})`
  return new LifeboatError(verdict === 'fail' ? 'verification-failed' : 'verification-inconclusive', words, {
    hint: hintFor(verdict, result.cause, parseBackupId(proof.backupId)?.type ?? 'external'),
  })
}

/** How a backup is replaced; those of other tools by these. */
const again: Readonly<Record<BackupType, string>> = {
  dump: ': lifeboat backup',
  full: ': lifeboat backup --type full',
  incremental: ': lifeboat backup --type full',
  external: '',
}

function hintFor(verdict: 'fail' | 'inconclusive', cause: string | undefined, type: BackupType): string {
  if (verdict === 'fail')
    return `do not rely on this copy; \`lifeboat list\` shows others and what is proven about them; take a new backup${again[type]}`
  if (cause === 'timed-out')
    return 'see what it waited for; if it only needs longer, allow more in verification.targetTimeout and verification.timeout'
  return 'mend what is missing here and verify again'
}
