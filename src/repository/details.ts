import { type Artifact, type Digest, type Manifest, plainName } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { backupIdShape, digestShape, type ManifestBody, problemOf, refuseUnknownVersion } from './manifest.ts'
import { checked, integer, listOf, nonEmptyText, objectOf, satisfying, text } from './shape.ts'

/*
 * What the manifest of an encrypted backup keeps to itself. It lies beside it, encrypted as the rest: whoever can open the
 * backup gets it, and nobody else learns where tablespaces were, which tables a warning names, or the hash of something small.
 */

/** The plain name of the artifact. */
export const detailsName = 'details.json'

/** The largest that is read, bytes. */
export const mostDetails = 16 * 1024 * 1024

const detailsVersion = 1

export interface Details {
  readonly formatVersion: typeof detailsVersion
  readonly backupId: string
  /** By plain names, without the details themselves. */
  readonly artifacts: readonly { readonly name: string; readonly plain: Digest }[]
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[]
  readonly warnings: readonly string[]
}

const detailsShape = objectOf<Details>({
  formatVersion: satisfying(String(detailsVersion), (value) => value === detailsVersion),
  backupId: backupIdShape,
  artifacts: listOf(objectOf<Details['artifacts'][number]>({ name: nonEmptyText, plain: digestShape })),
  tablespaces: listOf(objectOf<Details['tablespaces'][number]>({ oid: integer(1, 2 ** 32 - 1), path: nonEmptyText })),
  warnings: listOf(text),
})

/** A manifest without what belongs into the details, and the text of these. */
export function splitDetails(
  body: ManifestBody,
  artifacts: Details['artifacts'],
): { readonly body: ManifestBody; readonly details: string } {
  const { backupId, physical, warnings } = body
  const places = (physical?.tablespaces ?? []).flatMap(({ oid, path }) => (path === null ? [] : [{ oid, path }]))
  const details: Details = { formatVersion: detailsVersion, backupId, artifacts, tablespaces: places, warnings }
  const hidden = { ...body, warnings: warnings.map(() => `encrypted, see ${detailsName}`) }
  if (physical === undefined) return { body: hidden, details: textOf(details) }
  const tablespaces = physical.tablespaces.map((one) => ({ ...one, path: null }))
  return { body: { ...hidden, physical: { ...physical, tablespaces } }, details: textOf(details) }
}

function textOf(details: Details): string {
  return `${JSON.stringify(details, null, 1)}\n`
}

/**
 * The manifest with what its details say.
 *
 * @param bytes as they were before they were encrypted
 * @throws LifeboatError `artifact-invalid` for what are no details of this backup
 */
export function withDetails(manifest: Manifest, bytes: Buffer): Manifest {
  const details = parseDetails(manifest, bytes)
  const { physical, warnings } = manifest
  const paths = new Map(details.tablespaces.map(({ oid, path }) => [oid, path]))
  const hashes = new Map(details.artifacts.map(({ name, plain }) => [name, plain.sha256]))
  const artifacts: readonly Artifact[] = manifest.artifacts.map((one) => ({
    ...one,
    plain: { ...one.plain, sha256: one.plain.sha256 ?? hashes.get(plainName(one)) ?? null },
  }))
  const whole = {
    ...manifest,
    artifacts,
    warnings: details.warnings.length === warnings.length ? details.warnings : warnings,
  }
  if (physical === undefined) return whole
  const tablespaces = physical.tablespaces.map((one) => ({ ...one, path: one.path ?? paths.get(one.oid) ?? null }))
  return { ...whole, physical: { ...physical, tablespaces } }
}

function parseDetails({ backupId }: Manifest, bytes: Buffer): Details {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof value === 'object' && value !== null)
      refuseUnknownVersion(value as Record<string, unknown>, detailsVersion)
    const details = checked(detailsShape, value)
    if (details.backupId === backupId) return details
    throw new Error(`they are those of ${details.backupId}`)
  } catch (error) {
    throw new LifeboatError('artifact-invalid', `the details of ${backupId} are not valid: ${problemOf(error)}`, {
      cause: error,
    })
  }
}
