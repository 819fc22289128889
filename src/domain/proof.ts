import type { Digest } from './backup.ts'

/** How deep a verification looks; each level includes the ones before it. */
export const verificationLevels = ['artifact', 'restore', 'data'] as const
export type VerificationLevel = (typeof verificationLevels)[number]

/** `inconclusive`: something around the backup (an extension, disk space, a program) kept us from knowing. Never a proof. */
export const verdicts = ['pass', 'fail', 'inconclusive'] as const
export type Verdict = (typeof verdicts)[number]

/** One thing that was looked at, e.g. `checksum dump.tar`, `fingerprint`, `amcheck`. */
export interface Check {
  readonly name: string
  readonly verdict: Verdict
  /** What was found, in words; for `fail` and `inconclusive` always given. */
  readonly detail?: string
}

/** The result of one level. */
export interface LevelResult {
  readonly verdict: Verdict
  /** Short stable cause of a verdict that is not `pass`, e.g. `checksum-mismatch`, `extension-missing`, `disk-full`. */
  readonly cause?: string
  readonly checks: readonly Check[]
  readonly finishedAt: string
  readonly durationSeconds: number
}

/** Bytes that were hashed: while `version` stays the same they are not hashed again before the re-proof period ends. */
export interface HashedArtifact {
  readonly name: string
  /** The storage's identity of these bytes (see `ObjectInfo.version`). */
  readonly version: string
  readonly stored: Digest
  readonly hashedAt: string
}

export const proofFormatVersion = 1

/** The contents of `proofs/<UTC>-<backup-id>.json`: what was found about one backup in one repository. Proofs accrue. */
export interface Proof {
  readonly formatVersion: typeof proofFormatVersion
  readonly backupId: string
  /** The manifest's own checksum; empty when the manifest could not be read. */
  readonly manifestChecksum: string
  readonly startedAt: string
  readonly finishedAt: string
  /** The deepest level that was asked for. */
  readonly level: VerificationLevel
  /** The result of every level that was reached, shallowest first. */
  readonly levels: Readonly<Partial<Record<VerificationLevel, LevelResult>>>
  readonly hashed: readonly HashedArtifact[]
  /** Seconds by phase (`fetch`, `initdb`, `start`, `globals`, `restore`, `fingerprint`, `amcheck`, …), for RTO. */
  readonly phases: Readonly<Record<string, number>>
  readonly serverVersion: string
  readonly lifeboat: string
  /** SHA-256 of the proof's canonical JSON without this field; always the last field. */
  readonly checksum: string
}

/** The verdict of a whole proof: the worst of its levels, `fail` before `inconclusive` before `pass`. */
export function overallVerdict(proof: Pick<Proof, 'levels'>): Verdict {
  const found = Object.values(proof.levels).map((level) => level.verdict)
  if (found.includes('fail')) return 'fail'
  return found.length === 0 || found.includes('inconclusive') ? 'inconclusive' : 'pass'
}

/** True when the proof shows that the backup was really restored and nothing was found wrong at any level. */
export function isRestoreProof(proof: Pick<Proof, 'levels'>): boolean {
  return overallVerdict(proof) === 'pass' && proof.levels.restore?.verdict === 'pass'
}
