import { LifeboatError } from './errors.ts'

/** Who may write to a repository. */
export interface Lease {
  readonly formatVersion: number
  /** The holder's name for itself: random, kept in its state directory. */
  readonly holder: string
  readonly host: string
  readonly pid: number
  readonly acquiredAt: string
  /** By the holder's clock; for people only. */
  readonly renewedAt: string
  /** Since it was taken. That this changes tells that the holder lives, also where the clock stands still. */
  readonly renewals: number
  /** It lapses when the holder has not renewed it for so long. */
  readonly ttlSeconds: number
  /** Given back: whoever wants it need not wait. */
  readonly released: boolean
}

/** Longest time to live. */
export const longestTtlSeconds = 3600

/** How things stand after a look at a lease. */
export type LeaseState =
  | { readonly state: 'held'; readonly since: Date }
  | {
      readonly state: 'waiting'
      /** Null: the lease cannot be understood. */
      readonly holder: Lease | null
      /** It was renewed while we looked on: its holder lives. */
      readonly isAlive: boolean
      /** When it lapses if it is not renewed, milliseconds from now. */
      readonly lapsesInMs: number
    }

/** Whose it is, for people. */
export function describeHolder(lease: Lease | null): string {
  if (lease === null) return 'somebody whose lease cannot be understood'
  return `${lease.host} (process ${lease.pid}, since ${lease.acquiredAt}, renewed at ${lease.renewedAt})`
}

export function heldByAnother(lease: Lease | null, repository: string): LifeboatError {
  return new LifeboatError(
    'conflict',
    `the lease on the repository ${repository} is held by ${describeHolder(lease)}`,
    {
      hint: 'one lifeboat writes to a repository at a time: ask that one, or stop it and wait until its lease has lapsed',
      details: { repository, holder: lease === null ? null : { host: lease.host, pid: lease.pid } },
    },
  )
}
