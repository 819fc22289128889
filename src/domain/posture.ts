/** What a bucket says of itself. A setting that it does not tell has the reason why. */
export interface BucketFacts {
  readonly versioning: Told<'on' | 'suspended' | 'off'>
  /** Null: Object Lock is off. */
  readonly lock: Told<BucketLock | null>
  readonly lifecycle: Told<readonly LifecycleRule[]>
  /** Whether a policy lets anybody in. */
  readonly publicPolicy: Told<boolean>
  /** Whether an access control list does. */
  readonly publicAcl: Told<boolean>
  /** Whether all of the public access block is on. */
  readonly publicBlock: Told<boolean>
  /** How the server encrypts what comes without a word about it; null: not at all. */
  readonly encryption: Told<string | null>
  /** False for plain http to another machine. */
  readonly isPrivate: boolean
  /** By how much our clock is behind the server's, milliseconds; negative: it is ahead. */
  readonly clockBehindMs: number
}

export type Told<T> = { readonly value: T } | { readonly unknown: string }

/** What Object Lock does to an object that says nothing of its own about it. */
export interface BucketLock {
  /** Null: nothing. */
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE' | null
  readonly seconds: number
}

/** An enabled rule of a bucket's lifecycle; what it does not do is null. Times are those since an object was put. */
export interface LifecycleRule {
  readonly id: string
  readonly prefix: string
  readonly tags: Readonly<Record<string, string>>
  /** Deletes objects, in a bucket with versions the present one of each. */
  readonly expiresAfterSeconds: number | null
  /** Moves them to where they cannot be read without being brought back. */
  readonly freezesAfterSeconds: number | null
  /** Deletes versions that are not the present one any more. */
  readonly removesOldVersions: boolean
  readonly abortsUploads: boolean
}

/** What the repository needs of its bucket. */
export interface PostureNeeds {
  /** Before every key: empty, or ends in `/`. */
  readonly prefix: string
  /** For how long a backup stays in any case, seconds; null: for ever. */
  readonly keepForSeconds: number | null
  /** For how long one may stay, by the rule that keeps longest; likewise. */
  readonly longestSeconds: number | null
  /** For how long WAL stays; likewise. */
  readonly walSeconds: number | null
  /** Below the prefix. */
  readonly cluster: string
  /** Tags that all objects get. */
  readonly tags: Readonly<Record<string, string>>
  /** How long uploads lock what they put, seconds; infinity: a legal hold; null: that is left to the bucket. */
  readonly ownLockSeconds: number | null
  /** Uploads say how they are to be encrypted. */
  readonly encrypts: boolean
}

/** What is looked at, in the order of telling: the values of the label `check`. */
export const postureChecks = {
  versioning: 'older versions are kept',
  object_lock: 'Object Lock protects what is put',
  lock_duration: 'locks last as long as backups stay',
  lifecycle: 'no lifecycle rule deletes or freezes what is needed',
  old_versions: 'older versions are removed at last',
  abort_uploads: 'unfinished uploads are removed',
  public_access: 'nobody else is let in',
  public_access_block: 'public access is blocked',
  encryption: 'the server encrypts',
  tls: 'the connection is encrypted',
  clock: 'the clocks agree',
} as const

export type PostureCheck = keyof typeof postureChecks

/** One thing about a bucket. `unknown` where nobody can tell, with why. */
export type PostureFinding =
  | { readonly check: PostureCheck; readonly state: 'good' }
  | { readonly check: PostureCheck; readonly state: 'weak'; readonly what: string; readonly hint: string }
  | { readonly check: PostureCheck; readonly state: 'unknown'; readonly why: string }

/** Judges a bucket by what it says. What cannot be asked for (how long locks last where there are none) is left out. */
export function judgePosture(facts: BucketFacts, needs: PostureNeeds): readonly PostureFinding[] {
  const good = (check: PostureCheck): PostureFinding => ({ check, state: 'good' })
  const weak = (check: PostureCheck, what: string, hint: string): PostureFinding => ({
    ...{ check, state: 'weak', what, hint },
  })
  const judge = <T>(check: PostureCheck, told: Told<T>, look: (value: T) => readonly [string, string] | null) => {
    if ('unknown' in told) return { check, state: 'unknown', why: told.unknown } as const
    const found = look(told.value)
    return found === null ? good(check) : weak(check, ...found)
  }
  const { versioning, lock, lifecycle } = facts
  const hasVersions = 'value' in versioning && versioning.value !== 'off'
  return [
    judge('versioning', versioning, (value) =>
      value === 'on' ? null : [`versioning is ${value}: who can delete a backup can do so for good`, versioningHint],
    ),
    judge('object_lock', lock, (value) => lockWeakness(value, needs)),
    ...('value' in lock && lock.value !== null ? lockDuration(lock.value, needs, { good, weak }) : []),
    judge('lifecycle', lifecycle, (rules) => harm(rules, needs)),
    ...(hasVersions
      ? [judge('old_versions', lifecycle, (rules) => (covers(rules, needs, 'removesOldVersions') ? null : oldVersions))]
      : []),
    judge('abort_uploads', lifecycle, (rules) => (covers(rules, needs, 'abortsUploads') ? null : abortUploads)),
    judge('public_access', either(facts.publicPolicy, facts.publicAcl), (isPublic) => (isPublic ? openToAll : null)),
    judge('public_access_block', facts.publicBlock, (isOn) => (isOn ? null : notBlocked)),
    needs.encrypts
      ? good('encryption')
      : judge('encryption', facts.encryption, (how) => (how === null ? notEncrypted : null)),
    facts.isPrivate ? good('tls') : weak('tls', ...plainHttp),
    Math.abs(facts.clockBehindMs) < clockToleranceMs
      ? good('clock')
      : weak('clock', clockWords(facts.clockBehindMs), clockHint),
  ]
}

/** Beyond a quarter of an hour servers refuse signatures. */
const clockToleranceMs = 5 * 60_000

const versioningHint =
  'turn versioning on, with a lifecycle rule that removes older versions after a while; better, use Object Lock'
const unlockedHint = 'set objectLock of the repository where backups are made: docs/s3-policies.md has for how long'
const lockHint = 'make a bucket with Object Lock, and see docs/s3-policies.md for how long it is to lock'
const oldVersions = [
  'the bucket keeps versions, and no lifecycle rule removes old ones: what expires goes on to cost',
  'add a rule with NoncurrentVersionExpiration for the prefix',
] as const
const abortUploads = [
  'no lifecycle rule removes the parts of unfinished uploads',
  'add a rule with AbortIncompleteMultipartUpload: Lifeboat aborts them too, but only while it runs',
] as const
const openToAll = [
  'the bucket is public: its policy or its access control list lets in everybody',
  'take that out of the policy or the list, and block public access',
] as const
const notBlocked = [
  'public access is not blocked: one mistake in a policy could make backups public',
  'turn on all four settings of the public access block of the bucket',
] as const
const notEncrypted = [
  'the server stores what it gets as it is',
  'set the default encryption of the bucket, or serverSideEncryption of the repository',
] as const
const plainHttp = [
  'what is sent goes over plain http to another machine, and can be read on its way',
  'use https in endpoint of the repository',
] as const
const clockHint = 'set the clock that is wrong: retention, locks and signatures go by it'

function lockWeakness(lock: BucketLock | null, { ownLockSeconds }: PostureNeeds): readonly [string, string] | null {
  if (lock === null) return ['Object Lock is off: whoever has the keys can delete all backups', lockHint]
  if (lock.mode === null && ownLockSeconds === null) {
    return ['Object Lock is on, but nothing locks what is put: the bucket has no default retention', unlockedHint]
  }
  return null
}

function lockDuration(
  lock: BucketLock,
  { ownLockSeconds, keepForSeconds }: PostureNeeds,
  say: {
    good: (check: PostureCheck) => PostureFinding
    weak: (check: PostureCheck, what: string, hint: string) => PostureFinding
  },
): readonly PostureFinding[] {
  if (lock.mode === null && ownLockSeconds === null) return []
  const locked = ownLockSeconds ?? lock.seconds
  const kept = keepForSeconds ?? Number.POSITIVE_INFINITY
  const days = `locks last ${duration(locked)}, and keepFor is ${duration(kept)}`
  if (locked < kept) {
    const hint = 'lock for as long as keepFor: what is older can be deleted by whoever has the keys'
    return [say.weak('lock_duration', `${days}: backups outlive their locks`, hint)]
  }
  // A lock counts in days.
  if (Math.floor(locked / daySeconds) > Math.ceil(kept / daySeconds)) {
    const hint = 'lock for as long as keepFor: what has expired cannot go, and costs, until its lock ends'
    return [say.weak('lock_duration', `${days}: locks outlive what they protect`, hint)]
  }
  return [say.good('lock_duration')]
}

const daySeconds = 86_400

function duration(seconds: number): string {
  if (seconds === Number.POSITIVE_INFINITY) return 'for ever'
  return seconds % daySeconds === 0 ? `${seconds / daySeconds} d` : `${Math.round(seconds / 360) / 10} h`
}

function clockWords(behindMs: number): string {
  const hours = Math.abs(behindMs) / 3_600_000
  const much = hours < 1 ? `${Math.round(hours * 60)} min` : `${Math.round(hours * 10) / 10} h`
  return `the clock of this machine is ${much} ${behindMs > 0 ? 'behind' : 'ahead of'} that of the server`
}

/** What stays for how long below the prefix; what is not named stays for ever. */
function places({ prefix, cluster, longestSeconds, walSeconds }: PostureNeeds) {
  const forever = Number.POSITIVE_INFINITY
  return [
    { prefix: `${prefix}${cluster}/backups/`, seconds: longestSeconds ?? forever, what: 'backups' },
    { prefix: `${prefix}${cluster}/wal/`, seconds: walSeconds ?? forever, what: 'WAL' },
    { prefix: `${prefix}${cluster}/proofs/`, seconds: longestSeconds ?? forever, what: 'proofs' },
    { prefix: `${prefix}${cluster}/holds/`, seconds: forever, what: 'holds' },
    { prefix: `${prefix}${cluster}/repository.json`, seconds: forever, what: 'repository.json' },
  ]
}

function harm(rules: readonly LifecycleRule[], needs: PostureNeeds): readonly [string, string] | null {
  for (const rule of rules) {
    if (Object.entries(rule.tags).some(([name, value]) => needs.tags[name] !== value)) continue
    for (const place of places(needs)) {
      if (!(place.prefix.startsWith(rule.prefix) || rule.prefix.startsWith(place.prefix))) continue
      const name = `the lifecycle rule ${JSON.stringify(rule.id)}`
      const needed = `needed ${place.seconds === Number.POSITIVE_INFINITY ? '' : 'for '}${duration(place.seconds)}`
      const { expiresAfterSeconds: expires, freezesAfterSeconds: freezes } = rule
      if (expires !== null && expires < place.seconds) {
        const what = `${name} deletes ${place.what} after ${duration(expires)}: ${needed}`
        return [what, 'let it be: Lifeboat removes what has expired; limit the rule to other prefixes']
      }
      if (freezes !== null && freezes < place.seconds) {
        const what = `${name} moves ${place.what} to cold storage after ${duration(freezes)}: ${needed}`
        return [what, 'what is there can be neither verified nor restored at once: use storageClass GLACIER_IR instead']
      }
    }
  }
  return null
}

/** Whether rules do that to everything below the prefix. */
function covers(
  rules: readonly LifecycleRule[],
  { prefix, cluster }: PostureNeeds,
  what: 'removesOldVersions' | 'abortsUploads',
): boolean {
  return rules.some(
    (rule) => rule[what] && `${prefix}${cluster}/`.startsWith(rule.prefix) && Object.keys(rule.tags).length === 0,
  )
}

/** True as soon as one is; else known only when both are. */
function either(a: Told<boolean>, b: Told<boolean>): Told<boolean> {
  const known = [a, b].filter((one) => 'value' in one)
  if (known.some(({ value }) => value)) return { value: true }
  return 'unknown' in a ? a : b
}
