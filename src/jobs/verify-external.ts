import { pipeline } from 'node:stream/promises'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Inspection } from '../domain/external.ts'
import { identityOf } from '../domain/external-file.ts'
import {
  type HashedArtifact,
  type LevelResult,
  type Proof,
  proofFormatVersion,
  type VerificationLevel,
} from '../domain/proof.ts'
import { lookAtFile } from '../external/file-facts.ts'
import { inspectDump } from '../external/inspect.ts'
import { readDump } from '../external/open-dump.ts'
import { findInstallations } from '../postgres/installations.ts'
import { DigestStream } from '../storage/digest.ts'
import { restoreExternalCopy } from './external-copy.ts'
import { LevelRecorder } from './level-recorder.ts'
import { Phases } from './phases.ts'
import { removeScratch, whileAlive } from './scratch-restore.ts'
import { withinTime } from './target-time.ts'
import { verifyAssertions, verifyIndexes } from './verify-data.ts'
import { diskFailure } from './work-folder.ts'

/** A file that another tool wrote, to be verified. */
export interface ExternalTarget {
  readonly id: string
  readonly watch: string
  readonly path: string
  readonly database: string
  readonly bytes: number
}

export interface VerifyExternalOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** Milliseconds that the look at it may take. */
  readonly limitMs: number
  readonly version: string
  readonly target: ExternalTarget
  readonly level: VerificationLevel
  /** Work folder of this file alone; made by the caller, who removes it. */
  readonly folder: string
  readonly onProgress: (ratio: number, message: string) => void
}

/**
 * Verifies a file that another tool wrote: that it is a whole dump, that it can be restored into an empty server, and that
 * what comes out is sound. There is no fingerprint to compare it with, so `data` means less than for Lifeboat's own
 * backups: structure and the user's assertions, not equality.
 *
 * The proof names the identity of the file in the place of a manifest's checksum, and the SHA-256 of what was read.
 */
export async function verifyExternal(options: VerifyExternalOptions): Promise<Proof> {
  const { clock, target, signal } = options
  const startedAt = clock.now().toISOString()
  const phases = new Phases(clock)
  const levels: Partial<Record<VerificationLevel, LevelResult>> = {}
  const identity = await identityAt(target.path)
  const hashed: HashedArtifact[] = []
  const inspection = await withinTime({ clock, ms: options.limitMs, signal }, (limited) =>
    verifyLevels({ ...options, signal: limited }, { levels, hashed, phases, identity }),
  )
  signal.throwIfAborted()
  if ((await identityAt(target.path)) !== identity) {
    const last = new LevelRecorder(clock)
    last.add(
      { name: 'unchanged', verdict: 'inconclusive', detail: 'the file was changed meanwhile' },
      'artifact-changed',
    )
    levels.artifact = last.result()
  }
  return {
    formatVersion: proofFormatVersion,
    backupId: target.id,
    manifestChecksum: identity,
    startedAt,
    finishedAt: clock.now().toISOString(),
    level: options.level,
    levels,
    hashed,
    phases: phases.seconds(),
    serverVersion: inspection?.serverVersion ?? '',
    lifeboat: options.version,
    checksum: '',
  }
}

/** Empty when the file is not there. */
async function identityAt(path: string): Promise<string> {
  const facts = await lookAtFile(path)
  return facts === null ? '' : identityOf(facts)
}

interface Findings {
  readonly levels: Partial<Record<VerificationLevel, LevelResult>>
  readonly hashed: HashedArtifact[]
  readonly phases: Phases
  readonly identity: string
}

async function verifyLevels(options: VerifyExternalOptions, findings: Findings): Promise<Inspection | null> {
  const { config, clock, target, signal, level, onProgress, log } = options
  const { levels, phases } = findings
  const installations = await findInstallations(config.postgres.binDir)
  const whole = new LevelRecorder(clock)
  onProgress(0, 'reading')
  const inspect = () => phases.time('fetch', () => inspectDump(target.path, { installations, signal }))
  const inspection = await whole.look('contents', 'not-readable', signal, inspect, 'inconclusive')
  if (inspection === null) {
    levels.artifact = whole.result()
    return null
  }
  addInspection(whole, inspection)
  if (whole.verdict === 'pass') {
    await whole.look('checksum', 'not-readable', signal, () => phases.time('fetch', () => hash(options, findings)))
  }
  levels.artifact = whole.result()
  if (whole.verdict !== 'pass' || level === 'artifact') return inspection

  const restoring = new LevelRecorder(clock)
  onProgress(0.3, 'restoring')
  const copy = await restoreExternalCopy(options, { inspection, installations, phases }, restoring)
  try {
    levels.restore = restoring.result()
    if (copy === null || level === 'restore') return inspection
    onProgress(0.7, 'checking')
    const data = new LevelRecorder(clock)
    const part = (name: string, cause: string, work: () => Promise<void>) =>
      data.look(name, cause, signal, () => whileAlive(copy.server, name, () => phases.time(name, work)))
    data.pass('rows', 'not compared: a file of another tool has no fingerprint')
    const { jobs } = config.verification
    for (const database of copy.databases) {
      const one = { ...copy, database }
      await part('amcheck', 'corruption', () => verifyIndexes({ copy: one, jobs, signal }, data))
      const assertions = config.verification.assertions.filter((assertion) => assertion.database === database)
      await part('assertions', 'assertion-failed', () => verifyAssertions({ copy: one, assertions, signal }, data))
    }
    reportUntried(copy.databases, options, data)
    levels.data = data.result()
    return inspection
  } finally {
    if (copy !== null) await removeScratch(copy.server, log)
  }
}

function addInspection(recorder: LevelRecorder, { state, detail, format, compression }: Inspection): void {
  if (state === 'sound') recorder.pass('contents', `${format}${compression === 'none' ? '' : `, ${compression}`}`)
  else if (state === 'unchecked')
    recorder.add({ name: 'contents', verdict: 'inconclusive', detail: detail ?? '' }, 'not-readable')
  else recorder.add({ name: 'contents', verdict: 'fail', detail: detail ?? '' }, state)
}

/** An assertion for the database that the file is named for must not go unnoticed because the dump holds another one. */
function reportUntried(tried: readonly string[], { config, target }: VerifyExternalOptions, data: LevelRecorder): void {
  const { database } = target
  if (tried.includes(database) || !config.verification.assertions.some((one) => one.database === database)) return
  const detail = `the dump holds no database ${JSON.stringify(database)}, but ${tried.join(', ')}`
  data.add({ name: 'assertions', verdict: 'inconclusive', detail }, 'database-missing')
}

/** Whoever has a copy elsewhere can tell with `sha256sum` whether it is what was proven. */
async function hash({ target, signal, clock }: VerifyExternalOptions, { hashed, identity }: Findings): Promise<void> {
  try {
    for await (const { name, bytes } of readDump(target.path)) {
      const digest = new DigestStream()
      digest.resume()
      await pipeline(bytes, digest, { signal })
      hashed.push({ name, version: identity, stored: digest.digest(), hashedAt: clock.now().toISOString() })
    }
  } catch (cause) {
    throw diskFailure(cause, `cannot read ${target.path}`)
  }
}
