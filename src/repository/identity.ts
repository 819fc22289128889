import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { type Place, readWhole, type Stoppable } from './backup-folder.ts'
import { parseWithChecksum, serializeWithChecksum } from './canonical.ts'
import { markerKey } from './layout.ts'
import { problemOf, refuseUnknownVersion } from './manifest.ts'
import { checked, nonEmptyText, objectOf, satisfying, sha256, textThat, timestamp } from './shape.ts'

/** The contents of `<cluster>/repository.json`: it tells one repository from another, and from a mount point without its disk. */
export interface Marker {
  readonly formatVersion: number
  /** 16 random hexadecimal digits. */
  readonly id: string
  readonly createdAt: string
  /** The version that made it. */
  readonly lifeboat: string
  readonly checksum: string
}

/** Which repository each name stood for when it was last used. Kept outside of the repositories. */
export interface IdentityLedger {
  /** Null when it was never seen. */
  repositoryId(repository: string, cluster: string): string | null
  noteRepository(repository: string, cluster: string, id: string): void
}

export interface IdentityOptions {
  readonly ledger: IdentityLedger
  /** Lifeboat's own version, for a new marker. */
  readonly lifeboat: string
  /** Whether the place itself is there: the directory, the bucket. */
  readonly exists: () => Promise<boolean>
}

/** A repository's place with all that tells which one it is. */
export interface IdentifiedPlace extends Place, IdentityOptions {
  readonly name: string
  readonly clock: Clock
}

const markerFormatVersion = 1
const maxMarkerBytes = 64 * 1024

const shape = objectOf<Marker>({
  formatVersion: satisfying(String(markerFormatVersion), (value) => value === markerFormatVersion),
  id: textThat('16 hexadecimal digits', (value) => /^[0-9a-f]{16}$/.test(value)),
  createdAt: timestamp,
  lifeboat: nonEmptyText,
  checksum: sha256,
})

/**
 * Sees that this is the repository that it was: an empty mount point looks just like a new repository. Gives its id, or
 * null where nothing was ever written or an earlier version did not mark it.
 *
 * @throws LifeboatError `storage-failed` when it is another one, or its marker is damaged
 */
export async function checkIdentity(place: IdentifiedPlace, options: Stoppable = {}): Promise<string | null> {
  const { name, cluster, ledger } = place
  const known = ledger.repositoryId(name, cluster)
  const id = (await readMarker(place, options))?.id ?? null
  if (known !== null && id !== known) throw notTheSame(name, id)
  if (known === null && id !== null) ledger.noteRepository(name, cluster, id)
  return id
}

/** Like `checkIdentity`, and a place that is not there at all fails too: it can be looked at once the first backup was put. */
export async function checkPresence(place: IdentifiedPlace, options: Stoppable = {}): Promise<void> {
  if ((await checkIdentity(place, options)) !== null || (await place.exists())) return
  throw new LifeboatError('storage-failed', `the repository ${place.name} is not there (yet)`, {
    hint: 'if it holds backups, mount it; if it is new, the first backup makes it',
  })
}

/** Before anything is written: `checkIdentity`, and the marker is made where there is none. */
export async function ensureIdentity(place: IdentifiedPlace, options: Stoppable = {}): Promise<void> {
  if ((await checkIdentity(place, options)) !== null) return
  try {
    const id = await putMarker(place, { ...options, ifAbsent: true })
    place.ledger.noteRepository(place.name, place.cluster, id)
  } catch (error) {
    if (!(error instanceof LifeboatError && error.code === 'object-exists')) throw error
    await checkIdentity(place, options) // another process was faster
  }
}

/**
 * Takes what is there now for the repository from now on; a marker that is missing or damaged is made anew. Gives the id.
 *
 * @throws LifeboatError `storage-failed` when the place is not there
 */
export async function adoptIdentity(place: IdentifiedPlace, options: Stoppable = {}): Promise<string> {
  if (!(await place.exists())) {
    throw new LifeboatError('storage-failed', `the repository ${place.name} is not there`, {
      hint: 'mount it, or make its directory',
    })
  }
  const marker = await readMarker(place, options).catch((error: unknown) => {
    if (error instanceof LifeboatError && error.details?.damaged === true) return null
    throw error
  })
  const id = marker?.id ?? (await putMarker(place, options))
  place.ledger.noteRepository(place.name, place.cluster, id)
  return id
}

async function putMarker(
  { storage, cluster, clock, lifeboat }: IdentifiedPlace,
  options: Stoppable & { readonly ifAbsent?: boolean },
): Promise<string> {
  const id = randomBytes(8).toString('hex')
  const fields = { formatVersion: markerFormatVersion, id, createdAt: clock.now().toISOString(), lifeboat }
  await storage.put(markerKey(cluster), Buffer.from(serializeWithChecksum(fields)), options)
  return id
}

async function readMarker({ storage, cluster, name }: IdentifiedPlace, options: Stoppable): Promise<Marker | null> {
  let bytes: Buffer | null
  try {
    ;({ bytes } = await readWhole(storage, markerKey(cluster), maxMarkerBytes, options))
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'object-missing') return null
    throw error
  }
  try {
    const fields = parseWithChecksum(bytes ?? Buffer.alloc(0))
    refuseUnknownVersion(fields, markerFormatVersion)
    return checked(shape, fields)
  } catch (error) {
    throw new LifeboatError(
      'storage-failed',
      `the marker ${markerKey(cluster)} of the repository ${name} is not valid: ${problemOf(error)}`,
      {
        hint: `look at the disk; if the backups are whole, \`lifeboat adopt ${name}\` makes a new marker`,
        details: { damaged: true },
        cause: error,
      },
    )
  }
}

function notTheSame(name: string, found: string | null): LifeboatError {
  const what = found === null ? 'its marker is missing' : 'it has the marker of another one'
  return new LifeboatError(
    'storage-failed',
    `${name}: this is not the repository that it was (${what}): is it mounted?`,
    { hint: `mount it; if it was replaced on purpose, run \`lifeboat adopt ${name}\`` },
  )
}
