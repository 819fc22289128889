import { hash } from 'node:crypto'
import { hostname } from 'node:os'
import { pid } from 'node:process'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { heldByAnother, type Lease, type LeaseState, longestTtlSeconds } from '../domain/lease.ts'
import type { PutOptions } from '../storage/storage.ts'
import { type Place, readWhole, type Stoppable } from './backup-folder.ts'
import { leaseKey, leasesPrefix, leaseToken, tokensPrefix } from './layout.ts'
import { integer, nonEmptyText, objectOf, parseOrNull, satisfying, timestamp } from './shape.ts'

const formatVersion = 1
const maxLeaseBytes = 64 * 1024

const shape = objectOf<Lease>({
  formatVersion: satisfying(String(formatVersion), (value) => value === formatVersion),
  holder: nonEmptyText,
  host: nonEmptyText,
  pid: integer(1),
  acquiredAt: timestamp,
  renewedAt: timestamp,
  renewals: integer(0),
  ttlSeconds: integer(1, longestTtlSeconds),
  released: satisfying('true or false', (value) => typeof value === 'boolean'),
})

/** The lease that counts, the one with the highest token, as it is stored in `leases/<token>.json`. */
export interface StoredLease {
  readonly token: number
  /** Changes with every renewal: of what is stored, not of how. File systems there are whose inodes change at every look. */
  readonly content: string
  /** Null when it cannot be understood: then somebody holds it of whom nothing is known. */
  readonly lease: Lease | null
}

/** The lease with the highest token; null when there was never one. */
export async function readLease(place: Place, options: Stoppable = {}): Promise<StoredLease | null> {
  for (let attempt = 0; ; attempt += 1) {
    const token = (await tokens(place, options)).at(-1)
    if (token === undefined) return null
    try {
      const { info, bytes } = await readWhole(place.storage, leaseKey(place.cluster, token), maxLeaseBytes, options)
      const content = bytes === null ? info.version : hash('sha256', bytes)
      return { token, content, lease: bytes === null ? null : parseOrNull(shape, bytes) }
    } catch (error) {
      // Superseded between the two looks.
      if (error instanceof LifeboatError && error.code === 'object-missing' && attempt < 5) continue
      throw error
    }
  }
}

async function tokens({ storage, cluster }: Place, options: Stoppable): Promise<readonly number[]> {
  const found: number[] = []
  for await (const item of storage.list(tokensPrefix(cluster), { ...options, delimiter: '/' })) {
    const token = 'key' in item ? leaseToken(cluster, item.key) : null
    if (token !== null) found.push(token)
  }
  return found // keys are of one length: byte order is the order of tokens
}

export interface LeaseClaimOptions {
  readonly place: Place & { readonly name: string }
  readonly clock: Clock
  /** All processes of one state directory are one holder: its history keeps them apart. */
  readonly holder: () => string
  readonly ttlSeconds: number
  /** Default: this machine's. */
  readonly host?: string
  /** Default: this process's. */
  readonly pid?: number
}

export interface LookOptions extends Stoppable {
  /** Answers for the lease from now on, also where another process of this holder has done so. */
  readonly isKeeper?: boolean
}

/** A name that is taken by what is no lease (a folder, a link) is stepped over, so many times. */
const attempts = 6

/**
 * One holder's side of the lease on one repository: takes it when it is free, keeps it by renewing it, and takes it over when
 * its holder has gone.
 *
 * No clock is compared with another: a lease has lapsed when the watcher has seen it unchanged for its time to live, by the
 * watcher's own monotonic clock. Taking it is a put of a higher token that fails if the token is taken. Who stood still for
 * so long that it lost the lease without knowing finds the higher token when it looks, and it looks before it publishes or
 * removes anything (`assertHeld`).
 *
 * Source: M. Kleppmann, "How to do distributed locking" (fencing tokens)
 */
export class LeaseClaim {
  readonly #options: LeaseClaimOptions
  readonly #host: string
  readonly #pid: number
  #seen: { readonly token: number; readonly content: string; at: number; renewals: number } | null = null
  #held: { readonly token: number; until: number } | null = null

  constructor(options: LeaseClaimOptions) {
    this.#options = options
    this.#host = options.host ?? hostname()
    this.#pid = options.pid ?? pid
  }

  /** True as long as nobody who keeps to the rules can have taken the lease: for its time to live since the last renewal. */
  get isHeld(): boolean {
    return this.#held !== null && this.#options.clock.monotonic() < this.#held.until
  }

  /** Looks, and takes or renews the lease if it may. Fails as the storage does. */
  async look(options: LookOptions = {}): Promise<LeaseState> {
    const { cluster, name } = this.#options.place
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const state = await this.#look(attempt, options)
      if (state !== null) return state
    }
    throw new LifeboatError(
      'storage-failed',
      `the lease on the repository ${name} cannot be taken: its next name is not free`,
      {
        hint: `look at ${leasesPrefix(cluster)} in the repository, and remove what lifeboat has not put there`,
      },
    )
  }

  /** Null: somebody was faster, or something is in the way. Each attempt goes for a higher token. */
  async #look(attempt: number, { isKeeper = false, ...options }: LookOptions): Promise<LeaseState | null> {
    const { place, clock } = this.#options
    const begun = clock.monotonic()
    const found = await readLease(place, options)
    const next = (found?.token ?? 0) + 1 + attempt
    if (found === null || found.lease?.released === true) return this.#take(next, begun, options)
    if (this.#isMine(found)) return this.#renew(found, isKeeper, begun, options)
    this.#held = null
    const { isAlive, lapsesInMs } = this.#watch(found, begun)
    if (lapsesInMs <= 0) return this.#take(next, begun, options)
    return { state: 'waiting', holder: found.lease, isAlive, lapsesInMs }
  }

  /**
   * The fence: looks whether the lease is still ours, whatever was known of it.
   *
   * @throws LifeboatError `conflict` when it is another's, or nobody's; what the storage says
   */
  async assertHeld(options: Stoppable = {}): Promise<void> {
    const found = await readLease(this.#options.place, options)
    if (found !== null && found.lease?.released !== true && this.#isMine(found)) return
    this.#held = null
    throw heldByAnother(found?.lease ?? null, this.#options.place.name)
  }

  /** Gives the lease back, so that the next one need not wait. Does nothing when another process of this holder answers for it. */
  async release(options: Stoppable = {}): Promise<void> {
    const held = this.#held
    this.#held = null
    if (held === null) return
    const found = await readLease(this.#options.place, options)
    if (found?.token !== held.token || !this.#isMine(found) || found.lease?.pid !== this.#pid) return
    await this.#put(held.token, { ...found.lease, released: true }, options)
  }

  #isMine(stored: StoredLease): stored is StoredLease & { readonly lease: Lease } {
    const { lease } = stored
    return lease !== null && lease.holder === this.#options.holder() && lease.host === this.#host
  }

  /**
   * How long it is unchanged. What was read is as old as the moment when reading began: whoever stands still in between,
   * for longer than the lease lasts, has not seen it stand still.
   */
  #watch({ token, content, lease }: StoredLease, begun: number): { isAlive: boolean; lapsesInMs: number } {
    if (this.#seen?.token !== token || this.#seen.content !== content) {
      const renewals = this.#seen?.token === token ? this.#seen.renewals + 1 : 0
      this.#seen = { token, content, at: this.#options.clock.monotonic(), renewals }
    }
    const ttlSeconds = Math.max(lease?.ttlSeconds ?? 0, this.#options.ttlSeconds)
    return { isAlive: this.#seen.renewals > 0, lapsesInMs: this.#seen.at + ttlSeconds * 1000 - begun }
  }

  async #take(token: number, begun: number, options: Stoppable): Promise<LeaseState | null> {
    const { place, clock, holder, ttlSeconds } = this.#options
    const at = clock.now().toISOString()
    const lease: Lease = {
      ...{ formatVersion, holder: holder(), host: this.#host, pid: this.#pid },
      ...{ acquiredAt: at, renewedAt: at, renewals: 0, ttlSeconds: Math.ceil(ttlSeconds), released: false },
    }
    if (!Number.isSafeInteger(token)) return null
    try {
      await this.#put(token, lease, { ...options, ifAbsent: true })
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'object-exists')) throw error
      return null // another one was faster
    }
    return this.#confirm(token, at, begun, options, async () => {
      for (const older of await tokens(place, options)) {
        if (older < token) await place.storage.remove(leaseKey(place.cluster, older), options)
      }
    })
  }

  /** A command beside the sidecar leaves the lease in its name, so that the command's end does not give it away. */
  async #renew(
    { token, lease }: StoredLease & { readonly lease: Lease },
    isKeeper: boolean,
    begun: number,
    options: Stoppable,
  ): Promise<LeaseState | null> {
    const { clock, ttlSeconds } = this.#options
    await this.#put(
      token,
      {
        ...lease,
        pid: isKeeper ? this.#pid : lease.pid,
        renewedAt: clock.now().toISOString(),
        renewals: lease.renewals + 1,
        ttlSeconds: Math.ceil(ttlSeconds),
      },
      options,
    )
    return this.#wasInTime(token, lease)
      ? this.#hold(token, lease.acquiredAt, begun)
      : this.#confirm(token, lease.acquiredAt, begun, options)
  }

  /**
   * Nobody takes a lease before it has lapsed, and whoever does reads it after that: what was put before is what was read. Half of
   * what a renewal costs in a bucket is saved. Another process of this holder may have renewed it for a shorter time.
   */
  #wasInTime(token: number, { ttlSeconds }: Lease): boolean {
    return this.isHeld && this.#held?.token === token && ttlSeconds >= this.#options.ttlSeconds
  }

  #hold(token: number, acquiredAt: string, begun: number): LeaseState {
    this.#held = { token, until: begun + this.#options.ttlSeconds * 1000 }
    return { state: 'held', since: new Date(acquiredAt) }
  }

  /** Somebody may have put a higher token since we looked, and taken ours away with it. */
  async #confirm(
    token: number,
    acquiredAt: string,
    begun: number,
    options: Stoppable,
    then: () => Promise<void> = async () => {},
  ): Promise<LeaseState | null> {
    const { place } = this.#options
    const found = await readLease(place, options)
    if (found?.token !== token) {
      this.#held = null
      if (found !== null && found.token > token) await place.storage.remove(leaseKey(place.cluster, token), options)
      return null
    }
    // Where a server replaces what it was asked not to, another one may have put the same token.
    if (!this.#isMine(found)) {
      this.#held = null
      return null
    }
    const state = this.#hold(token, acquiredAt, begun)
    await then()
    return state
  }

  async #put(token: number, lease: Lease, options: PutOptions): Promise<void> {
    const { storage, cluster } = this.#options.place
    await storage.put(leaseKey(cluster, token), Buffer.from(`${JSON.stringify(lease, null, 2)}\n`), options)
  }
}
