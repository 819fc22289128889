import {
  type Artifact,
  backupTypes,
  type Digest,
  type DumpedDatabase,
  findArtifact,
  isBackupId,
  isEncryptedArtifact,
  type Manifest,
  manifestFormatVersion,
  type PhysicalFacts,
  parseBackupId,
  plainName,
  type WalMoment,
} from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { isSegmentSize } from '../domain/wal.ts'
import { parseWithChecksum, serializeWithChecksum } from './canonical.ts'
import { isArtifactName, isClusterName } from './layout.ts'
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

/** What a backup's producer knows of it; the rest of the manifest is the repository's. */
export type ManifestBody = Omit<Manifest, 'checksum' | 'formatVersion' | 'artifacts'>

export const backupIdShape = textThat('a backup id', isBackupId)

export const digestShape = objectOf<Digest>({ bytes: integer(0), sha256 })

const artifactShape = objectOf<Artifact>({
  name: textThat('the name of an artifact', isArtifactName),
  plain: objectOf<Artifact['plain']>({ bytes: integer(0), sha256: nullable(sha256) }),
  stored: digestShape,
})

const lsn = textThat('an LSN such as 16/B374D848', (value) => /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(value))
const timelineShape = integer(1, 2 ** 32 - 1)

const momentShape = objectOf<WalMoment>({ lsn, time: timestamp })

const oid = integer(1, 2 ** 32 - 1)
const yesOrNo = satisfying<boolean>('true or false', (value) => typeof value === 'boolean')

const physicalShape = objectOf<PhysicalFacts>(
  {
    wal: listOf(objectOf<PhysicalFacts['wal'][number]>({ timeline: timelineShape, start: lsn, end: lsn })),
    tablespaces: listOf(
      objectOf<PhysicalFacts['tablespaces'][number]>({
        oid,
        path: nullable(nonEmptyText),
        artifact: textThat('the name of an artifact', isArtifactName),
      }),
    ),
    segmentSize: satisfying('the size of a WAL segment', (value) => typeof value === 'number' && isSegmentSize(value)),
    dataChecksums: yesOrNo,
    sourceBytes: integer(0),
    fromStandby: yesOrNo,
    configSaved: yesOrNo,
    basis: objectOf<NonNullable<PhysicalFacts['basis']>>({ timeline: timelineShape, lsn }),
    madeFrom: listOf(backupIdShape),
  },
  ['basis', 'madeFrom'],
)

const databaseShape = objectOf<DumpedDatabase>({
  name: nonEmptyText,
  oid,
  sourceBytes: integer(0),
})

const manifestShape = objectOf<Manifest>(
  {
    formatVersion: satisfying(String(manifestFormatVersion), (value) => value === manifestFormatVersion),
    backupId: backupIdShape,
    type: oneOf(backupTypes.filter((type) => type !== 'external')),
    cluster: textThat('a cluster name', isClusterName),
    systemIdentifier: textThat('a system identifier in decimal', (value) => /^[1-9]\d{0,19}$/.test(value)),
    serverVersion: nonEmptyText,
    serverVersionNum: integer(1),
    timeline: timelineShape,
    start: momentShape,
    stop: momentShape,
    parent: nullable(backupIdShape),
    database: nullable(databaseShape),
    physical: physicalShape,
    artifacts: listOf(artifactShape),
    producer: objectOf<Manifest['producer']>({
      lifeboat: nonEmptyText,
      programs: mapOf(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, text),
      options: listOf(text),
    }),
    warnings: listOf(text),
    durationSeconds: seconds,
    checksum: sha256,
  },
  ['physical'],
)

/** Without one of these a dump does not bring everything back, or not by hand. A fingerprint can be switched off. */
const requiredOfDump = ['dump.tar', 'globals.sql', 'RESTORE.md']
const requiredOfPhysical = ['base.tar.zst', 'backup_manifest', 'RESTORE.md']

/** The manifest, complete, and the text of its file. Fails with `usage-invalid` on what `parseManifest` would refuse. */
export function serializeManifest(
  body: ManifestBody,
  artifacts: readonly Artifact[],
): { readonly text: string; readonly manifest: Manifest } {
  // In this order in the file: what it is, what it is of, what it holds. `parent` and `database` are null, never absent.
  const file = serializeWithChecksum({
    formatVersion: manifestFormatVersion,
    backupId: body.backupId,
    type: body.type,
    cluster: body.cluster,
    systemIdentifier: body.systemIdentifier,
    serverVersion: body.serverVersion,
    serverVersionNum: body.serverVersionNum,
    timeline: body.timeline,
    start: body.start,
    stop: body.stop,
    parent: body.parent,
    database: body.database,
    ...(body.physical === undefined ? {} : { physical: body.physical }),
    artifacts,
    producer: body.producer,
    warnings: body.warnings,
    durationSeconds: body.durationSeconds,
  })
  try {
    // Read back before it is written: NaN becomes null in JSON, a field of undefined disappears.
    return { text: file, manifest: checkManifest(parseWithChecksum(Buffer.from(file))) }
  } catch (error) {
    throw new LifeboatError('usage-invalid', `cannot write the manifest: ${problemOf(error)}`, { cause: error })
  }
}

/**
 * Reads a manifest and checks all of it: canonical form, checksum, every field and how they go together. `expected` is
 * where it was found: a manifest that was copied into another folder is refused. Fails with `manifest-invalid`.
 */
export function parseManifest(
  bytes: Buffer,
  expected: { readonly backupId: string; readonly cluster: string },
): Manifest {
  try {
    const manifest = checkManifest(parseWithChecksum(bytes))
    for (const field of ['backupId', 'cluster'] as const) {
      if (manifest[field] !== expected[field]) {
        throw new ShapeError(`${field} is ${JSON.stringify(manifest[field])}: it belongs to another folder`)
      }
    }
    return manifest
  } catch (error) {
    throw new LifeboatError(
      'manifest-invalid',
      `the manifest of ${expected.backupId} is not valid: ${problemOf(error)}`,
      {
        hint: 'look for a good copy in another repository; do not edit a manifest by hand',
        cause: error,
      },
    )
  }
}

function checkManifest(value: Record<string, unknown>): Manifest {
  refuseUnknownVersion(value, manifestFormatVersion)
  const manifest = checked(manifestShape, value)
  const { type, parent, database, artifacts } = manifest
  if (parseBackupId(manifest.backupId)?.type !== type)
    throw new ShapeError(`type is ${type}, the backup id says otherwise`)
  if ((type === 'incremental') !== (parent !== null))
    throw new ShapeError('parent must be given for an incremental, only')
  if ((type === 'dump') !== (database !== null)) throw new ShapeError('database must be given for a dump, only')
  if (artifacts.length === 0) throw new ShapeError('artifacts must not be empty')
  if (new Set(artifacts.map(({ name }) => name)).size < artifacts.length)
    throw new ShapeError('artifacts has a name twice')
  if (new Set(artifacts.map(plainName)).size < artifacts.length)
    throw new ShapeError('artifacts has one both plain and encrypted')
  if (artifacts.some((one) => isEncryptedArtifact(one) !== (one.plain.sha256 === null)))
    throw new ShapeError('plain.sha256 must be null for what is encrypted, only')
  if ((type === 'dump') === (manifest.physical !== undefined))
    throw new ShapeError('physical must be given for a physical backup, only')
  const required = type === 'dump' ? requiredOfDump : requiredOfPhysical
  const tablespaces = manifest.physical?.tablespaces.map(({ artifact }) => artifact) ?? []
  const missing = [...required, ...tablespaces].filter((wanted) => findArtifact({ artifacts }, wanted) === undefined)
  if (missing.length > 0) throw new ShapeError(`artifacts has no ${missing.join(', no ')}`)
  return manifest
}

/** Says so plainly when a newer Lifeboat wrote it, instead of complaining about its fields. */
export function refuseUnknownVersion(fields: Record<string, unknown>, known: number): void {
  const version = fields.formatVersion
  if (typeof version === 'number' && version !== known) {
    throw new ShapeError(`format version ${version} is not known to this version of lifeboat`)
  }
}

/** What an error says about a document; of an unknown kind of error, its message. */
export function problemOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
