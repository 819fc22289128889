import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import {
  type Check,
  type HashedArtifact,
  type LevelResult,
  type Proof,
  proofFormatVersion,
  type RestoredCluster,
  verdicts,
  verificationLevels,
} from '../domain/proof.ts'
import { parseWithChecksum, serializeWithChecksum } from './canonical.ts'
import { isArtifactName } from './layout.ts'
import { backupIdShape, digestShape, problemOf, refuseUnknownVersion } from './manifest.ts'
import {
  checked,
  integer,
  listOf,
  mapOf,
  nonEmptyText,
  nullable,
  objectOf,
  oneOf,
  ShapeError,
  satisfying,
  seconds,
  sha256,
  text,
  textThat,
  timestamp,
} from './shape.ts'

/** What a verification found; the rest of the proof is the repository's. */
export type ProofBody = Omit<Proof, 'checksum' | 'formatVersion'>

const checkShape = objectOf<Check>({ name: nonEmptyText, verdict: oneOf(verdicts), detail: text }, ['detail'])

const levelShape = objectOf<LevelResult>(
  {
    verdict: oneOf(verdicts),
    cause: nonEmptyText,
    checks: listOf(checkShape),
    finishedAt: timestamp,
    durationSeconds: seconds,
  },
  ['cause'],
)

const hashedShape = objectOf<HashedArtifact>({
  name: textThat('the name of an artifact', isArtifactName),
  version: nonEmptyText,
  stored: digestShape,
  hashedAt: timestamp,
})

const restoredShape = objectOf<RestoredCluster>({
  bytes: integer(0),
  walBytes: integer(0),
  seconds,
  timeline: integer(1, 0xffff_ffff),
  lsn: textThat('a place in the WAL', (value) => parseLsn(value) !== null),
  target: nullable(nonEmptyText),
  lastCommitAt: nullable(timestamp),
})

const proofShape = objectOf<Proof>(
  {
    formatVersion: satisfying(String(proofFormatVersion), (value) => value === proofFormatVersion),
    backupId: backupIdShape,
    manifestChecksum: textThat('a SHA-256 in lower-case hex, or empty', (value) => /^([0-9a-f]{64})?$/.test(value)),
    startedAt: timestamp,
    finishedAt: timestamp,
    level: oneOf(verificationLevels),
    levels: objectOf<Proof['levels']>(
      { artifact: levelShape, restore: levelShape, data: levelShape },
      verificationLevels,
    ),
    hashed: listOf(hashedShape),
    phases: mapOf(/^[A-Za-z0-9][A-Za-z0-9_.: -]*$/, seconds),
    restored: restoredShape,
    serverVersion: text,
    lifeboat: nonEmptyText,
    checksum: sha256,
  },
  ['restored'],
)

/** The proof, complete, and the text of its file. Fails with `usage-invalid` on what `parseProof` would refuse. */
export function serializeProof(body: ProofBody): { readonly text: string; readonly proof: Proof } {
  const file = serializeWithChecksum({
    formatVersion: proofFormatVersion,
    backupId: body.backupId,
    manifestChecksum: body.manifestChecksum,
    startedAt: body.startedAt,
    finishedAt: body.finishedAt,
    level: body.level,
    levels: body.levels,
    hashed: body.hashed,
    phases: body.phases,
    ...(body.restored === undefined ? {} : { restored: body.restored }),
    serverVersion: body.serverVersion,
    lifeboat: body.lifeboat,
  })
  try {
    return { text: file, proof: parse(Buffer.from(file)) }
  } catch (error) {
    throw new LifeboatError('usage-invalid', `cannot write the proof: ${problemOf(error)}`, { cause: error })
  }
}

/** Reads a proof of the backup and checks all of it. Fails with `proof-invalid`. */
export function parseProof(bytes: Buffer, expected: { readonly backupId: string; readonly key: string }): Proof {
  try {
    const proof = parse(bytes)
    if (proof.backupId !== expected.backupId)
      throw new ShapeError(`backupId is ${proof.backupId}, its name says otherwise`)
    return proof
  } catch (error) {
    throw new LifeboatError('proof-invalid', `the proof ${expected.key} is not valid: ${problemOf(error)}`, {
      hint: 'it counts for nothing: remove the file, and verify the backup again',
      cause: error,
    })
  }
}

function parse(bytes: Buffer): Proof {
  const fields = parseWithChecksum(bytes)
  refuseUnknownVersion(fields, proofFormatVersion)
  return checked(proofShape, fields)
}
