import type { Clock } from '../clock.ts'
import type { Storage } from '../storage/storage.ts'
import { readClaim } from './backup-folder.ts'
import { type InProgress, serializeInProgress } from './in-progress.ts'

/** How often a claim gives a sign of life, milliseconds. */
export const heartbeatMs = 30_000

export interface HeartbeatOptions {
  readonly storage: Storage
  readonly clock: Clock
  /** Where the claim is stored. */
  readonly key: string
  readonly claim: InProgress
  /** Ends it. */
  readonly ended: AbortSignal
  /** Who loses the claim is out; without this it is put back. */
  readonly fenced: boolean
}

/** Renews a claim every 30 seconds, until its signal aborts. */
export class Heartbeat {
  readonly #options: HeartbeatOptions
  #beat: Promise<void> = Promise.resolve()

  constructor(options: HeartbeatOptions) {
    this.#options = options
    void this.#run()
  }

  /** The token that is stored now, or null if there is none. */
  async owner(): Promise<string | null> {
    const { storage, key } = this.#options
    return (await readClaim(storage, key))?.token ?? null
  }

  /** Waits for a beat that is under way. */
  async settled(): Promise<void> {
    await this.#beat
  }

  async #run(): Promise<void> {
    const { clock, ended } = this.#options
    while (!ended.aborted) {
      try {
        await clock.sleep(heartbeatMs, ended)
      } catch {
        return
      }
      if (ended.aborted) return
      // One that fails is made up for by the next; if all fail, the writer finds out who owns the folder.
      this.#beat = this.#renew().catch(() => {})
      await this.#beat
    }
  }

  async #renew(): Promise<void> {
    const { storage, clock, key, claim, ended, fenced } = this.#options
    if (fenced && (await this.owner()) !== claim.token) return
    const renewed = { ...claim, heartbeatAt: clock.now().toISOString() }
    await storage.put(key, serializeInProgress(renewed), { signal: ended })
  }
}
