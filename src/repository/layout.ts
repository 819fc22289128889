import { compactUtc, isBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { timelineDigits, type WalFileKind, walFileKind } from '../domain/wal.ts'
import { isSegment } from '../storage/keys.ts'

/*
 * Where things are in a repository, the same in a directory and under the prefix of a bucket:
 *
 *     <cluster>/repository.json
 *     <cluster>/backups/<backup-id>/.inprogress
 *     <cluster>/backups/<backup-id>/<artifact>
 *     <cluster>/backups/<backup-id>/manifest.json
 *     <cluster>/proofs/<UTC>-<backup-id>.json
 *     <cluster>/holds/<backup-id>.json
 *     <cluster>/uses/<backup-id>-<12 hex>.json
 *     <cluster>/leases/<20 digits>.json
 *     <cluster>/wal/<system-id>/<timeline>/<log>/<segment>-<12 hex>.zst[.age]
 *     <cluster>/wal/<system-id>/<timeline>.history
 *     <cluster>/wal/<system-id>/<segment>.<offset>.backup
 *     <cluster>/quarantine/<system-id or unknown>/<name>-<12 hex>.zst[.age]
 */

const manifestName = 'manifest.json'
const inProgressName = '.inprogress'
const artifactPattern = /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}$/
const usePattern = /^([0-9A-Za-z-]+)-[0-9a-f]{12}\.json$/
const leasePattern = /^(\d{20})\.json$/
const systemIdentifierPattern = /^[1-9]\d{0,19}$/
const walHashPattern = /^[0-9a-f]{12}$/
const walKeyPattern = /^([^/]+)\/(?:([0-9A-F]{8})\/([0-9A-F]{8})\/([^/-]+)-([0-9a-f]{12})\.zst(\.age)?|([^/]+))$/
const proofPattern = /^(\d{8}T\d{6}Z)-([0-9A-Za-z-]+)\.json$/

/** True for a name that can be a cluster's folder: one segment of a key that is not hidden. */
export function isClusterName(name: string): boolean {
  return isSegment(name) && !name.startsWith('.')
}

/**
 * True for the name of an artifact: letters, digits and `_ . + -`, at most 200, beginning with neither a dot (hidden)
 * nor a dash (an option, to the tools that people restore with); and not `manifest.json`.
 */
export function isArtifactName(name: string): boolean {
  return artifactPattern.test(name) && name !== manifestName
}

/** What a key is of; `other` is small and often written or soon removed: leases, claims, marks, proofs, holds. */
export type ObjectKind = 'artifact' | 'manifest' | 'wal' | 'other'

/** The kind of an object of any cluster. A partial is `other`: its segment takes its place. */
export function objectKind(key: string): ObjectKind {
  const [cluster = '', folder, ...rest] = key.split('/')
  const [, name = ''] = rest
  if (folder === 'backups' && rest.length === 2) {
    return name === manifestName ? 'manifest' : isArtifactName(name) ? 'artifact' : 'other'
  }
  const wal = folder === 'wal' ? parseWalKey(cluster, key) : null
  return wal === null || wal.kind === 'partial' ? 'other' : 'wal'
}

/** True for what is put once and stays as it is until it expires, in the folder of a cluster. */
export function isForGood(key: string): boolean {
  return objectKind(key) !== 'other' && isClusterName(key.split('/', 1)[0] ?? '')
}

/** What tells this repository from another: see identity.ts. */
export function markerKey(cluster: string): string {
  return `${cluster}/repository.json`
}

export function backupsPrefix(cluster: string): string {
  return `${cluster}/backups/`
}

/** The folder of one backup, with a slash at its end. Fails with `usage-invalid` if the id is not a backup id. */
export function backupPrefix(cluster: string, id: string): string {
  if (!isBackupId(id)) throw new LifeboatError('usage-invalid', `${JSON.stringify(id)} is not a backup id`)
  return `${backupsPrefix(cluster)}${id}/`
}

export function manifestKey(cluster: string, id: string): string {
  return `${backupPrefix(cluster, id)}${manifestName}`
}

export function inProgressKey(cluster: string, id: string): string {
  return `${backupPrefix(cluster, id)}${inProgressName}`
}

/** Fails with `usage-invalid` if the name cannot be an artifact's. */
export function artifactKey(cluster: string, id: string, name: string): string {
  if (!isArtifactName(name))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(name)} is not an artifact's name`)
  return `${backupPrefix(cluster, id)}${name}`
}

export function proofsPrefix(cluster: string): string {
  return `${cluster}/proofs/`
}

export function proofKey(cluster: string, at: Date, id: string): string {
  if (!isBackupId(id)) throw new LifeboatError('usage-invalid', `${JSON.stringify(id)} is not a backup id`)
  return `${proofsPrefix(cluster)}${compactUtc(at)}-${id}.json`
}

/** The backup that a proof's key names, or null if it is not the key of a proof of this cluster. */
export function proofBackupId(cluster: string, key: string): string | null {
  const prefix = proofsPrefix(cluster)
  const id = key.startsWith(prefix) ? proofPattern.exec(key.slice(prefix.length))?.[2] : undefined
  return id !== undefined && isBackupId(id) ? id : null
}

export function holdsPrefix(cluster: string): string {
  return `${cluster}/holds/`
}

export function holdKey(cluster: string, id: string): string {
  if (!isBackupId(id)) throw new LifeboatError('usage-invalid', `${JSON.stringify(id)} is not a backup id`)
  return `${holdsPrefix(cluster)}${id}.json`
}

/** The backup that a hold's key names, or null if it is not the key of a hold of this cluster. */
export function heldBackupId(cluster: string, key: string): string | null {
  const prefix = holdsPrefix(cluster)
  if (!key.startsWith(prefix) || !key.endsWith('.json')) return null
  const id = key.slice(prefix.length, -'.json'.length)
  return isBackupId(id) ? id : null
}

export function usesPrefix(cluster: string): string {
  return `${cluster}/uses/`
}

/** Where one use of a backup is marked; `random` are 12 hexadecimal digits. */
export function useKey(cluster: string, id: string, random: string): string {
  if (!isBackupId(id)) throw new LifeboatError('usage-invalid', `${JSON.stringify(id)} is not a backup id`)
  return `${usesPrefix(cluster)}${id}-${random}.json`
}

/** The backup whose use a key marks, or null if it is not the key of such a mark of this cluster. */
export function usedBackupId(cluster: string, key: string): string | null {
  const prefix = usesPrefix(cluster)
  const id = key.startsWith(prefix) ? usePattern.exec(key.slice(prefix.length))?.[1] : undefined
  return id !== undefined && isBackupId(id) ? id : null
}

export function leasesPrefix(cluster: string): string {
  return `${cluster}/leases/`
}

/** What the names of leases begin with: no token needs all the digits. Whatever else is in the folder is not looked at. */
export function tokensPrefix(cluster: string): string {
  return `${leasesPrefix(cluster)}0000`
}

/** Twenty digits, so that the order of keys is that of tokens. */
export function leaseKey(cluster: string, token: number): string {
  return `${leasesPrefix(cluster)}${String(token).padStart(20, '0')}.json`
}

/** The token that a lease's key holds, or null if it is not the key of a lease of this cluster. */
export function leaseToken(cluster: string, key: string): number | null {
  const prefix = leasesPrefix(cluster)
  const digits = key.startsWith(prefix) ? leasePattern.exec(key.slice(prefix.length))?.[1] : undefined
  const token = Number(digits)
  return digits !== undefined && Number.isSafeInteger(token) && token > 0 ? token : null
}

/** An object of the stored WAL. */
export interface StoredWal {
  readonly systemIdentifier: string
  /** PostgreSQL's name of the file. */
  readonly name: string
  readonly kind: WalFileKind
  /** The first 12 hexadecimal digits of the SHA-256 of what PostgreSQL wrote; null for histories and labels, stored as they are. */
  readonly hash: string | null
  readonly isEncrypted: boolean
}

/** The WAL of one cluster, or of each that has ever been here under this name. */
export function walPrefix(cluster: string, systemIdentifier?: string): string {
  const all = `${cluster}/wal/`
  if (systemIdentifier === undefined) return all
  if (!systemIdentifierPattern.test(systemIdentifier))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(systemIdentifier)} is not a system identifier`)
  return `${all}${systemIdentifier}/`
}

/** The segments and partials of one timeline; of one log of it where `log` says its 8 hexadecimal digits. */
export function walTimelinePrefix(cluster: string, systemIdentifier: string, timeline: number, log?: string): string {
  const all = `${walPrefix(cluster, systemIdentifier)}${timelineDigits(timeline)}/`
  return log === undefined ? all : `${all}${log}/`
}

/** All objects of one segment, partials of it included, begin with it, whatever their content. */
export function walSegmentPrefix(cluster: string, systemIdentifier: string, segment: string): string {
  return `${walPrefix(cluster, systemIdentifier)}${segment.slice(0, 8)}/${segment.slice(8, 16)}/${segment}`
}

/** Fails with `usage-invalid` where no such object can be: a segment or partial has a hash, a history or label has none. */
export function walKey(cluster: string, wal: Omit<StoredWal, 'kind'>): string {
  const { systemIdentifier, name, hash, isEncrypted } = wal
  const kind = walFileKind(name)
  const isPlain = kind === 'history' || kind === 'label'
  const isPossible = isPlain ? hash === null && !isEncrypted : hash !== null && walHashPattern.test(hash)
  if (kind === null || !isPossible)
    throw new LifeboatError('usage-invalid', `${JSON.stringify(name)} cannot be stored as a WAL file`)
  if (hash === null) return `${walPrefix(cluster, systemIdentifier)}${name}`
  return `${walSegmentPrefix(cluster, systemIdentifier, name)}-${hash}.zst${isEncrypted ? '.age' : ''}`
}

/**
 * Where a file of WAL is kept that is not part of the cluster's WAL: of another cluster, other bytes under a name that is
 * taken, damaged. Without a name: all of a system identifier (null: not known).
 */
export function quarantineKey(
  cluster: string,
  file: { systemIdentifier: string | null; name: string; hash: string; isEncrypted?: boolean },
): string {
  const { systemIdentifier, name, hash, isEncrypted = false } = file
  if (walFileKind(name) === null || !walHashPattern.test(hash))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(name)} cannot be stored as a WAL file`)
  return `${quarantinePrefix(cluster, systemIdentifier, name)}-${hash}.zst${isEncrypted ? '.age' : ''}`
}

/** All in quarantine under one name begin with it. */
export function quarantinePrefix(cluster: string, systemIdentifier: string | null, name: string): string {
  if (systemIdentifier !== null && !systemIdentifierPattern.test(systemIdentifier))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(systemIdentifier)} is not a system identifier`)
  return `${cluster}/quarantine/${systemIdentifier ?? 'unknown'}/${name}`
}

/** What a key says of a WAL file, or null if it is not the key of one of this cluster. */
export function parseWalKey(cluster: string, key: string): StoredWal | null {
  const prefix = walPrefix(cluster)
  const parts = key.startsWith(prefix) ? walKeyPattern.exec(key.slice(prefix.length)) : null
  const [, systemIdentifier = '', timeline, log, stored, hash = null, age, plain] = parts ?? []
  const name = stored ?? plain ?? ''
  const kind = walFileKind(name)
  if (kind === null || !systemIdentifierPattern.test(systemIdentifier)) return null
  if ((kind === 'history' || kind === 'label') !== (hash === null)) return null
  if (hash !== null && !name.startsWith(`${timeline}${log}`)) return null
  return { systemIdentifier, name, kind, hash, isEncrypted: age !== undefined }
}
