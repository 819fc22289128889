/** A pair of keys, and the session's token where there is one. */
export interface S3Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

/** How objects are locked as they are put. */
export interface ObjectLockSettings {
  readonly mode: 'governance' | 'compliance'
  /** From the upload on; null: without an end in time. */
  readonly forSeconds: number | null
  readonly legalHold: boolean
  /** Whether an object is locked, by its key without the prefix. */
  readonly covers: (key: string) => boolean
}

/** Where a bucket is, and how objects are put into it. */
export interface S3Settings {
  readonly bucket: string
  /** Before every key: empty, or ends in `/`. */
  readonly prefix: string
  /** Null: what the environment or `~/.aws/config` says. */
  readonly region: string | null
  /** Null: Amazon's own. */
  readonly endpoint: string | null
  /** The bucket in the path instead of the host name. */
  readonly pathStyle: boolean
  /** Asked for each request, so that rotated keys count at once; null: the SDK's usual chain. */
  readonly keys: (() => Promise<S3Keys>) | null
  /** The storage class of an object by its key, without the prefix, and its size in bytes; null: the bucket's default. */
  readonly storageClass: (key: string, bytes: number) => string | null
  /** What the server is to compare with what it gets. */
  readonly checksum: 'sha256' | 'md5'
  /** Of every object, by key. */
  readonly tags: Readonly<Record<string, string>>
  /** Null: nothing is locked. */
  readonly objectLock: ObjectLockSettings | null
  readonly serverSideEncryption: 'AES256' | 'aws:kms' | null
  /** For aws:kms; null: the bucket's default key. */
  readonly kmsKeyId: string | null
  /** Of a multipart upload; all that fits into one part goes by a single PutObject. */
  readonly partBytes: number
  /** Parts of one object on their way at a time. */
  readonly parallel: number
  /** What proxies are found by: `HTTPS_PROXY`, `NO_PROXY` and so on, and `AWS_CA_BUNDLE`. */
  readonly env: Readonly<Record<string, string | undefined>>
}
