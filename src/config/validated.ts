import type { BandwidthRule } from '../domain/bandwidth.ts'
import type { FilePattern } from '../domain/file-pattern.ts'
import type { GrowthBounds } from '../domain/growth.ts'
import type { NamedHole } from '../domain/holes.ts'
import type { PriceTable } from '../domain/prices.ts'
import type { VerificationLevel } from '../domain/proof.ts'
import type { RetentionPolicy } from '../domain/retention.ts'
import type { JobName } from '../runner/job.ts'
import type { AlertDrillConfig } from './alert-servers.ts'

declare const validated: unique symbol

/** How to reach the cluster. */
export interface PostgresConfig {
  /** A host name, an address, or the directory of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  /** Called at each connection, so that a rotated password file is picked up without a restart; null: none configured. */
  readonly password: (() => Promise<string>) | null
  /** Names of the databases to dump; null: all but templates. */
  readonly databases: readonly string[] | null
  /** Where PostgreSQL's programs are; null: look on PATH and in the usual places. */
  readonly binDir: string | null
  /** Database to connect to for questions about the whole cluster. */
  readonly maintenanceDatabase: string
  readonly connectTimeoutMs: number
  readonly sslMode: 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'
  /** File with the certificate authorities to trust, for verify-ca and verify-full; null: the system's. */
  readonly sslRootCert: string | null
}

export interface RepositoryConfig {
  readonly name: string
  /** As written, e.g. `file:///var/backups/lifeboat`. */
  readonly url: string
  /** Absolute path of a `file://` repository; null for a bucket. */
  readonly path: string | null
  /** Null for a directory. */
  readonly bucket: BucketConfig | null
  /** Its section of a configuration that only reads it, as for restore_command. Of secrets it names the files. */
  readonly reading: Readonly<Record<string, unknown>>
  /** Limits of its transfers. */
  readonly bandwidth: readonly BandwidthRule[]
  readonly retention: RetentionPolicy
  /** WAL stays for so long in any case, as long as it is locked at least; null: for ever. */
  readonly walKeepForSeconds: number | null
  /** By which its cost is estimated; null: it is not. */
  readonly prices: PriceTable | null
  /** Dollars a month that it may cost; null: no such limit. */
  readonly monthlyBudget: number | null
}

/** How what is put into a bucket is locked. */
export interface ObjectLockConfig {
  readonly mode: 'governance' | 'compliance'
  /** From the upload on; null: by the legal hold alone. */
  readonly forSeconds: number | null
  readonly legalHold: boolean
}

/** With what is encrypted before it is stored, in all repositories. */
export interface EncryptionConfig {
  /** Public keys of age, or of SSH. */
  readonly recipients: readonly string[]
  /** File with further ones; null: none. */
  readonly recipientsFile: string | null
  /** File with the private keys, for reading; null: nothing that is encrypted can be opened here. */
  readonly identityFile: string | null
}

/** A bucket of S3, or of a server that speaks its protocol. */
export interface BucketConfig {
  readonly bucket: string
  /** Before every key: empty, or ends in `/`. */
  readonly prefix: string
  /** Null: what the environment says. */
  readonly region: string | null
  /** Null: Amazon's own. */
  readonly endpoint: string | null
  readonly pathStyle: boolean
  /** Read at each use; null: the SDK's usual chain. */
  readonly keys: (() => Promise<{ readonly accessKeyId: string; readonly secretAccessKey: string }>) | null
  /** Of the artifacts of backups; null: the bucket's default. */
  readonly storageClass: string | null
  /** Of WAL; null: the bucket's default. */
  readonly walStorageClass: string | null
  readonly checksum: 'sha256' | 'md5'
  /** By key. */
  readonly tags: Readonly<Record<string, string>>
  /** Null: nothing is locked. */
  readonly objectLock: ObjectLockConfig | null
  readonly serverSideEncryption: 'AES256' | 'aws:kms' | null
  readonly kmsKeyId: string | null
  readonly partBytes: number
  readonly parallel: number
}

/** A directory in which another tool puts dumps. */
export interface WatchConfig {
  /** The label `repository` on the metrics of these files. */
  readonly name: string
  readonly directory: string
  /** As written. */
  readonly pattern: string
  readonly match: FilePattern
  /** Null: the name of a file says it. */
  readonly database: string | null
  readonly quietMs: number
  readonly maxAgeSeconds: number
  readonly minBytes: number
  /** A share, 0 to 1, of the median of the files before. */
  readonly shrinkBelow: number
  readonly inspectNewest: number
  /** Null: nothing is ever removed. */
  readonly retention: RetentionPolicy | null
}

/** A bucket in which another tool puts dumps. */
export interface WatchedBucketConfig
  extends Pick<
    WatchConfig,
    'name' | 'pattern' | 'match' | 'database' | 'quietMs' | 'maxAgeSeconds' | 'minBytes' | 'shrinkBelow'
  > {
  readonly bucket: BucketConfig
}

/** What has a retention policy, repositories and watched directories, by name. */
export function retentionPolicies({
  repositories,
  watch,
}: Pick<ValidatedConfig, 'repositories' | 'watch'>): ReadonlyMap<string, RetentionPolicy> {
  const all = [...repositories, ...watch].map(({ name, retention }) => [name, retention] as const)
  return new Map(all.filter((one): one is readonly [string, RetentionPolicy] => one[1] !== null))
}

/** A statement that must give the expected value (first column of the first row, compared as JSON) in the restored copy. */
export interface Assertion {
  readonly database: string
  readonly sql: string
  readonly expect: string | number | boolean | null
  readonly name: string
}

export const roles = ['viewer', 'operator', 'admin'] as const
export type Role = (typeof roles)[number]

export interface TokenConfig {
  readonly name: string
  readonly role: Role
  /** SHA-256 of the token, lower-case hex. */
  readonly sha256: string
}

/**
 * The configuration after every check. Only the loader can make one (the brand is not exported), so that validation
 * cannot be skipped. Durations are seconds unless the name says otherwise, sizes are bytes.
 */
export interface ValidatedConfig {
  readonly [validated]: true
  /** `cluster_name` on every metric, and the first folder in every repository. */
  readonly cluster: string
  readonly listen: { readonly host: string; readonly port: number }
  /** SQLite file, locks. */
  readonly stateDir: string
  /** Staging of dumps and scratch servers; default `<stateDir>/work`. */
  readonly workDir: string
  readonly postgres: PostgresConfig
  /** Empty: nothing is backed up, and the server is not asked for anything; `watch` is not empty then. */
  readonly repositories: readonly RepositoryConfig[]
  /** Neither recipients nor a file of them: nothing is encrypted. */
  readonly encryption: EncryptionConfig
  readonly watch: readonly WatchConfig[]
  readonly watchedBuckets: readonly WatchedBucketConfig[]
  readonly wal: {
    /** The directory that archive_command fills, absolute; null: none. */
    readonly archive: string | null
    readonly clockSeconds: number
    /** Segments that are known to be missing. */
    readonly holes: readonly NamedHole[]
    /** Null: WAL is not received. Otherwise `archive` is not null. */
    readonly stream: { readonly slot: string; readonly synchronous: boolean; readonly shipEveryMs: number } | null
    readonly slotLimitBytes: number
    /** How long a segment stays there; null: for ever. */
    readonly keepInArchiveMs: number | null
    readonly ship: { readonly parallel: number; readonly level: number }
  }
  readonly dump: {
    readonly jobs: number
    /** Parallel workers of pg_dump. */
    readonly timeoutSeconds: number
    readonly fingerprint: {
      readonly enabled: boolean
      /** For all tables of one database together. What is not reached by then is left `unknown`. */
      readonly maxSeconds: number
      /** A larger table is fingerprinted by stable key ranges, or left `unknown`. */
      readonly maxTableBytes: number
    }
  }
  readonly physical: PhysicalConfig
  readonly verification: {
    /** The deepest level of a scheduled verification. */
    readonly level: VerificationLevel
    readonly jobs: number
    readonly timeoutSeconds: number
    /** For each backup of a run; null: a share of what is left. */
    readonly targetTimeoutSeconds: number | null
    /** Unchanged bytes are hashed again when the last time was longer ago than this. */
    readonly reproofSeconds: number
    /** A scratch server runs as this OS user, who must own nothing, when Lifeboat runs as root. */
    readonly osUser: string
    readonly assertions: readonly Assertion[]
  }
  /** Cron expressions, UTC; null: not scheduled. */
  readonly schedule: {
    readonly dump: string | null
    readonly full: string | null
    readonly incremental: string | null
    readonly verify: string | null
    readonly expire: string | null
    readonly alertDrill: string | null
    /** Make up once, at the start, for what was missed. */
    readonly catchUp: boolean
  }
  readonly runner: {
    /** Runs that may wait for a lane. */
    readonly queueLimit: number
    readonly retries: number
    readonly retryDelayMs: number
  }
  /** Null: as is usual for the place, see `leaseSecondsOf`. */
  readonly lease: { readonly ttlSeconds: number | null }
  readonly objectives: { readonly rpoSeconds: number; readonly rtoSeconds: number }
  readonly policy: {
    /** Age at which the newest backup is too old: set, or the longest gap of the schedule plus slack; null: no schedule. */
    readonly dumpMaxAgeSeconds: number | null
    readonly fullMaxAgeSeconds: number | null
    readonly incrementalMaxAgeSeconds: number | null
    readonly verificationMaxAgeSeconds: number | null
    readonly alertPathMaxAgeSeconds: number | null
  }
  readonly growth: GrowthBounds
  readonly hooks: readonly HookConfig[]
  readonly notify: readonly NotifyConfig[]
  readonly alertDrill: AlertDrillConfig
  readonly observe: { readonly intervalSeconds: number; readonly timeoutSeconds: number }
  readonly auth: { readonly tokens: readonly TokenConfig[] }
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent' }
}

/** How physical backups are taken. */
export interface PhysicalConfig {
  readonly checkpoint: 'fast' | 'spread'
  /** Of the transfer from the server, KiB a second; null: none. */
  readonly maxRateKib: number | null
  readonly compression: { readonly level: number; readonly threads: number }
  readonly timeoutSeconds: number
  /** For the WAL of a backup to be stored. */
  readonly walTimeoutMs: number
  /** So many backups one chain may have, the full one included. */
  readonly chainLimit: number
  /** A chain at its limit is put together, instead of reading the server again. */
  readonly consolidate: boolean
  /** Null: physical backups are read from the primary. */
  readonly standby: StandbyConfig | null
}

/** The standby that physical backups are read from; role, password and TLS are those of `postgres`. */
export interface StandbyConfig {
  readonly host: string
  readonly port: number
  /** So long it may take to replay what the primary had written when a backup begins. */
  readonly maxLagMs: number
  /** When it cannot be used the backup fails; otherwise one of the primary is taken. */
  readonly required: boolean
}

/** True when there is no repository: nothing is backed up, and no server is asked. */
export function isWatchOnly({ repositories }: Pick<ValidatedConfig, 'repositories'>): boolean {
  return repositories.length === 0
}

/** How long the lease on a repository lives. In a bucket each renewal costs money, and who takes over can wait a little. */
export function leaseSecondsOf(
  { lease, repositories }: Pick<ValidatedConfig, 'lease' | 'repositories'>,
  name: string,
): number {
  const isBucket = repositories.some((one) => one.name === name && one.bucket !== null)
  return lease.ttlSeconds ?? (isBucket ? 300 : 60)
}

/** A command around jobs. */
export interface HookConfig {
  readonly name: string
  readonly when: 'before' | 'after'
  readonly jobs: readonly JobName[]
  /** Which outcome, for one that runs after. */
  readonly on: 'always' | 'success' | 'failure'
  /** Absolute path. */
  readonly program: string
  readonly args: readonly string[]
  readonly timeoutMs: number
  /** What the failure of one that runs before means for the run. */
  readonly onFailure: 'fail' | 'warn'
}

export const runEvents = ['start', 'success', 'failure'] as const
export type RunEvent = (typeof runEvents)[number]

/** Somebody who is told of runs. */
export interface NotifyConfig {
  readonly name: string
  readonly kind: 'webhook' | 'healthchecks'
  /** Secret; read at each use. */
  readonly url: () => Promise<string>
  /** The key that signs; null: not signed. */
  readonly secret: (() => Promise<string>) | null
  readonly events: readonly RunEvent[]
  readonly jobs: readonly JobName[]
  /** For one attempt. */
  readonly timeoutMs: number
  readonly retries: number
}

/** A config before it is branded; for the loader alone. */
export type UnbrandedConfig = Omit<ValidatedConfig, typeof validated>
