import { isEncrypted, type Manifest } from '../domain/backup.ts'
import { objectsOf } from '../domain/backup-objects.ts'
import { LifeboatError } from '../domain/errors.ts'
import { isRestoreProof, overallVerdict, type Proof, verificationLevels } from '../domain/proof.ts'
import type { Lock } from '../storage/storage.ts'
import type { BackupSummary, ProofSummary } from './catalog.ts'

/** Gives equal strings back as one object, so that ten thousand backups share one name of their database. */
export type Intern = (text: string) => string

// More different strings than this are no longer names that repeat: begin anew rather than grow.
const largestPool = 4_096

export function createIntern(): Intern {
  const pool = new Map<string, string>()
  return (text) => {
    const known = pool.get(text)
    if (known !== undefined) return known
    if (pool.size >= largestPool) pool.clear()
    pool.set(text, text)
    return text
  }
}

function moment(text: string, what: string, code: 'manifest-invalid' | 'proof-invalid'): Date {
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) throw new LifeboatError(code, `${what} is not a time`)
  return date
}

/**
 * What the catalog keeps of a manifest. A dump restores to the moment of its snapshot (its start), a physical backup at
 * the earliest to its stop. Fails with `manifest-invalid` when a time is none.
 */
export function summarizeManifest(manifest: Manifest, intern: Intern, lock?: Lock): BackupSummary {
  const startedAt = moment(manifest.start.time, 'start.time', 'manifest-invalid')
  const finishedAt = moment(manifest.stop.time, 'stop.time', 'manifest-invalid')
  return Object.freeze({
    id: manifest.backupId,
    type: manifest.type,
    database: intern(manifest.database?.name ?? ''),
    systemIdentifier: intern(manifest.systemIdentifier),
    serverVersion: intern(manifest.serverVersion),
    startedAt,
    finishedAt,
    consistentAt: manifest.type === 'dump' ? startedAt : finishedAt,
    timeline: manifest.timeline,
    lsn: manifest.type === 'dump' ? manifest.start.lsn : manifest.stop.lsn,
    startTimeline: manifest.physical?.wal[0]?.timeline ?? manifest.timeline,
    startLsn: manifest.physical?.wal[0]?.start ?? manifest.start.lsn,
    durationSeconds: manifest.durationSeconds,
    storedBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0),
    plainBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.plain.bytes, 0),
    objects: Object.freeze(objectsOf(manifest.artifacts)),
    sourceBytes: manifest.database?.sourceBytes ?? manifest.physical?.sourceBytes ?? null,
    warnings: manifest.warnings.length,
    manifestChecksum: manifest.checksum,
    isEncrypted: isEncrypted(manifest),
    parent: manifest.parent,
    ...(lock === undefined ? {} : { lock }),
  })
}

/** What the catalog keeps of a proof. Fails with `proof-invalid` when a time is none. */
export function summarizeProof(proof: Proof, intern: Intern): ProofSummary {
  const startedAt = moment(proof.startedAt, 'startedAt', 'proof-invalid')
  const finishedAt = moment(proof.finishedAt, 'finishedAt', 'proof-invalid')
  const levels: { -readonly [L in keyof ProofSummary['levels']]: ProofSummary['levels'][L] } = {}
  for (const level of verificationLevels) {
    const result = proof.levels[level]
    if (result === undefined) continue
    levels[level] = Object.freeze({
      verdict: result.verdict,
      ...(result.cause === undefined ? {} : { cause: intern(result.cause) }),
      finishedAt: moment(result.finishedAt, `levels.${level}.finishedAt`, 'proof-invalid'),
      durationSeconds: result.durationSeconds,
    })
  }
  return Object.freeze({
    backupId: proof.backupId,
    manifestChecksum: proof.manifestChecksum,
    startedAt,
    finishedAt,
    durationSeconds: Math.max(0, (finishedAt.getTime() - startedAt.getTime()) / 1000),
    verdict: overallVerdict(proof),
    provesRestore: isRestoreProof(proof),
    ...(proof.restored === undefined
      ? {}
      : { measured: Object.freeze({ phases: Object.freeze(proof.phases), walBytes: proof.restored.walBytes }) }),
    levels: Object.freeze(levels),
  })
}
