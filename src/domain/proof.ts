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

/** What it took to make a server of a physical backup, and how far it went: how long a restore takes is learned from it. */
export interface RestoredCluster {
  /** Of the data directory and its tablespaces, before any WAL was replayed. */
  readonly bytes: number
  /** Of the WAL that was fetched, as PostgreSQL writes it. */
  readonly walBytes: number
  /** From the first byte that was read of it to the end of the replay. */
  readonly seconds: number
  /** Where the replay ended. */
  readonly timeline: number
  readonly lsn: string
  /** Beyond the backup's own end: the moment that was asked for, or `latest`. Null: to its end. */
  readonly target: string | null
  /** Of the last transaction that was replayed; null where there was none. */
  readonly lastCommitAt: string | null
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
  /** Of a physical backup that became a server; other proofs have none. */
  readonly restored?: RestoredCluster
  readonly serverVersion: string
  readonly lifeboat: string
  /** SHA-256 of the proof's canonical JSON without this field; always the last field. */
  readonly checksum: string
}

/**
 * The verdict of a whole proof: `fail` when any level failed, `pass` when every level up to the one that was asked for
 * did. Anything else is `inconclusive`: a level that was not reached shows nothing.
 */
export function overallVerdict({ level, levels }: Pick<Proof, 'level' | 'levels'>): Verdict {
  if (Object.values(levels).some(({ verdict }) => verdict === 'fail')) return 'fail'
  const asked = verificationLevels.slice(0, verificationLevels.indexOf(level) + 1)
  return asked.every((one) => levels[one]?.verdict === 'pass') ? 'pass' : 'inconclusive'
}

/** True when the proof shows that the backup was really restored and nothing was found wrong at any level. */
export function isRestoreProof(proof: Pick<Proof, 'level' | 'levels'>): boolean {
  return overallVerdict(proof) === 'pass' && proof.levels.restore?.verdict === 'pass'
}

/** What all proofs of a backup together say: `refuted` when a failure has not been disproved since. */
export type Standing = 'proven' | 'refuted' | 'unproven'

/** What `standing` must know of a proof: its overall verdict, `isRestoreProof`, and the verdict of each level. */
interface Finding {
  readonly verdict: Verdict
  readonly provesRestore: boolean
  readonly levels: Readonly<Partial<Record<VerificationLevel, { readonly verdict: Verdict }>>>
}

/** What the proofs of one backup (newest first) say. A failure is disproved by a later pass at that level or deeper. */
export function standing(proofs: readonly Finding[] | undefined): Standing {
  let passed = -1
  for (const proof of proofs ?? []) {
    if (proof.verdict === 'pass') {
      if (proof.provesRestore) return 'proven'
      passed = Math.max(
        passed,
        verificationLevels.findLastIndex((level) => proof.levels[level] !== undefined),
      )
    } else if (verificationLevels.findIndex((level) => proof.levels[level]?.verdict === 'fail') > passed) {
      return 'refuted'
    }
  }
  return 'unproven'
}
