import type { Clock } from '../clock.ts'
import { type Place, readInProgress } from './backup-folder.ts'
import { type InProgress, serializeInProgress } from './in-progress.ts'
import { inProgressKey } from './layout.ts'

const heartbeatMs = 30_000

/** Renews the claim of a backup's folder every 30 seconds, as long as it is ours, until the signal aborts. */
export class Heartbeat {
  readonly #place: Place
  readonly #clock: Clock
  readonly #id: string
  readonly #claim: InProgress
  readonly #ended: AbortSignal
  #beat: Promise<void> = Promise.resolve()

  constructor(place: Place, clock: Clock, id: string, mine: InProgress, ended: AbortSignal) {
    this.#place = place
    this.#clock = clock
    this.#id = id
    this.#claim = mine
    this.#ended = ended
    void this.#run()
  }

  /** The token in `.inprogress`, or null if there is none. */
  async owner(): Promise<string | null> {
    return (await readInProgress(this.#place, this.#id))?.token ?? null
  }

  /** Waits for a beat that is under way. */
  async settled(): Promise<void> {
    await this.#beat
  }

  async #run(): Promise<void> {
    while (!this.#ended.aborted) {
      try {
        await this.#clock.sleep(heartbeatMs, this.#ended)
      } catch {
        return
      }
      if (this.#ended.aborted) return
      // One that fails is made up for by the next; if all fail, publish finds out who owns the folder.
      this.#beat = this.#renew().catch(() => {})
      await this.#beat
    }
  }

  async #renew(): Promise<void> {
    if ((await this.owner()) !== this.#claim.token) return
    const renewed = { ...this.#claim, heartbeatAt: this.#clock.now().toISOString() }
    const key = inProgressKey(this.#place.cluster, this.#id)
    await this.#place.storage.put(key, serializeInProgress(renewed), { signal: this.#ended })
  }
}
