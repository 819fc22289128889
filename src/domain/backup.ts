/** Kinds of backup (DESIGN, "Words"). `external` is a file that some other tool wrote into a watched directory. */
export const backupTypes = ['dump', 'full', 'incremental', 'external'] as const
export type BackupType = (typeof backupTypes)[number]

/** The current version of manifest.json. A reader refuses what it does not know. */
export const manifestFormatVersion = 1

/** Byte count and SHA-256 (lower-case hex) of a sequence of bytes. */
export interface Digest {
  readonly bytes: number
  readonly sha256: string
}

/** One immutable file of a backup. `plain` and `stored` are equal while we compress or encrypt nothing on the way. */
export interface Artifact {
  /** With `.age` at its end where it is encrypted. */
  readonly name: string
  /** The hash of what is encrypted stands in details.json.age: known beside it, it would tell small contents. */
  readonly plain: { readonly bytes: number; readonly sha256: string | null }
  readonly stored: Digest
}

/** The end of the name of what is encrypted. */
export const encryptedSuffix = '.age'

export function isEncryptedArtifact({ name }: Pick<Artifact, 'name'>): boolean {
  return name.endsWith(encryptedSuffix)
}

/** True when some of it can be read with a private key only. The configuration of today says nothing about it. */
export function isEncrypted({ artifacts }: { readonly artifacts: readonly Pick<Artifact, 'name'>[] }): boolean {
  return artifacts.some(isEncryptedArtifact)
}

/** The name of an artifact before it was encrypted, if it was. */
export function plainName({ name }: Pick<Artifact, 'name'>): string {
  return isEncryptedArtifact({ name }) ? name.slice(0, -encryptedSuffix.length) : name
}

/** The artifact of a plain name, encrypted or not. */
export function findArtifact<T extends Pick<Artifact, 'name'>>(
  { artifacts }: { readonly artifacts: readonly T[] },
  name: string,
): T | undefined {
  return artifacts.find((one) => plainName(one) === name)
}

/** A place in the WAL and the moment that belongs to it (RFC 3339, UTC). */
export interface WalMoment {
  readonly lsn: string
  readonly time: string
}

/** The database of a dump. */
export interface DumpedDatabase {
  readonly name: string
  readonly oid: number
  /** `pg_database_size` at the time of the dump, bytes. */
  readonly sourceBytes: number
}

/** WAL on one timeline, from its first place to the one after its last. */
export interface WalInterval {
  readonly timeline: number
  readonly start: string
  readonly end: string
}

/** What a physical backup is made of, besides its artifacts. */
export interface PhysicalFacts {
  /** The WAL without which it cannot be used, in order: `WAL-Ranges` of PostgreSQL's own manifest. */
  readonly wal: readonly WalInterval[]
  /**
   * Tablespaces besides the default ones: where they were, and the artifact that holds them, by its plain name. Of an encrypted
   * backup details.json.age says where they were.
   */
  readonly tablespaces: readonly { readonly oid: number; readonly path: string | null; readonly artifact: string }[]
  /** Of the WAL, bytes. */
  readonly segmentSize: number
  /** The pages carry checksums. */
  readonly dataChecksums: boolean
  /** Of the cluster when the backup began, as the server told it, bytes. */
  readonly sourceBytes: number
  readonly fromStandby: boolean
  /** The artifact `config.tar` holds configuration that lies outside of the data directory. */
  readonly configSaved: boolean
  /**
   * Of an incremental backup: where the one starts that it builds on. Whatever starts there will do, such as a full backup
   * that was put together from a chain. Backups of earlier versions have none.
   */
  readonly basis?: { readonly timeline: number; readonly lsn: string }
  /** Of a full backup that was put together from a chain: the ids of its backups, the full one first. */
  readonly madeFrom?: readonly string[]
}

/** The contents of `manifest.json`. Published last: a backup exists when its manifest does. */
export interface Manifest {
  readonly formatVersion: typeof manifestFormatVersion
  readonly backupId: string
  readonly type: Exclude<BackupType, 'external'>
  readonly cluster: string
  /** Decimal, as `pg_control_system()` gives it: it does not fit a double. */
  readonly systemIdentifier: string
  /** As `server_version` gives it, e.g. `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly serverVersion: string
  /** As `server_version_num` gives it, e.g. 150018. */
  readonly serverVersionNum: number
  readonly timeline: number
  /** For a dump: the moment of its snapshot. */
  readonly start: WalMoment
  readonly stop: WalMoment
  readonly parent: string | null
  readonly database: DumpedDatabase | null
  /** Of a physical backup; a dump has none. */
  readonly physical?: PhysicalFacts
  readonly artifacts: readonly Artifact[]
  readonly producer: {
    readonly lifeboat: string
    /** Program name to version, e.g. `{ pg_dump: '15.18' }`. */
    readonly programs: Readonly<Record<string, string>>
    readonly options: readonly string[]
  }
  readonly warnings: readonly string[]
  /** Seconds from the start of the work to its last artifact. */
  readonly durationSeconds: number
  /** SHA-256 of the manifest's canonical JSON without this field; always the last field. */
  readonly checksum: string
}

/** Clocks of two machines may differ by so much before anything is made of it, milliseconds. */
export const clockToleranceMs = 5 * 60_000

/**
 * True for what was dated by a clock that was ahead: nothing has begun or ended in the future. Counted by its date it would
 * be the newest for as long as the clock was wrong, and hide that no other backup is taken.
 */
export function isDatedAhead(moments: readonly Date[], now: Date): boolean {
  return moments.some((at) => at.getTime() - now.getTime() > clockToleranceMs)
}

const idPattern =
  /^\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])(?:[0-5]\d){2}Z-(?:dump|full|incremental)-[0-9a-f]{6}$/

/** `<UTC yyyymmddThhmmssZ>-<type>-<6 random hex>`. What the backup holds stands in its manifest alone. */
export function backupId(at: Date, type: Exclude<BackupType, 'external'>, random: string): string {
  return `${compactUtc(at)}-${type}-${random}`
}

/** True for a well-formed backup id; everything that comes from a request or a directory listing passes through here. */
export function isBackupId(text: string): boolean {
  if (!idPattern.test(text)) return false
  const day = text.slice(6, 8)
  // Every month has a 28th, while the 31st of February would be taken for a day in March. Ids are checked by the ten
  // thousand: this way most need no date.
  return day <= '28' || momentOf(text).getUTCDate() === Number(day)
}

/** True for the id of a file that another tool wrote: `external-` and 16 hex. */
export function isExternalId(text: string): boolean {
  return /^external-[0-9a-f]{16}$/.test(text)
}

/** The start time and type that an id carries, or null if it is not a backup id. */
export function parseBackupId(text: string): { at: Date; type: Exclude<BackupType, 'external'> } | null {
  if (!isBackupId(text)) return null
  return { at: momentOf(text), type: text.slice(17, -7) as Exclude<BackupType, 'external'> }
}

/** Numbers: to parse a date from text costs several times this. Not `Date.UTC`: it takes the year 50 for 1950. */
function momentOf(id: string): Date {
  const number = (from: number, to: number): number => Number(id.slice(from, to))
  const at = new Date(0)
  at.setUTCFullYear(number(0, 4), number(4, 6) - 1, number(6, 8))
  at.setUTCHours(number(9, 11), number(11, 13), number(13, 15))
  return at
}

/** A moment as `yyyymmddThhmmssZ`, sortable as text. */
export function compactUtc(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
}
