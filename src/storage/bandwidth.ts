import type { Clock } from '../clock.ts'
import { type BandwidthRule, limitAt } from '../domain/bandwidth.ts'
import { throwIfStopped } from './failures.ts'

/** What may go at once after a pause, as a time at the limit. */
const burstSeconds = 0.25

/** Nobody waits for longer without looking what the limit is by now. */
const longestWaitMs = 1_000

/**
 * Holds transfers up so that all of them together keep to a limit: a bucket of tokens that fills as time passes. Whoever takes more than
 * is in it leaves a debt, and the next one waits until that is paid; so pieces of any size pass, in the order in which they came.
 */
export class Bandwidth {
  readonly #rules: readonly BandwidthRule[]
  readonly #clock: Clock
  #tokens = 0
  #filledAt: number
  /** The last one in the queue; never rejects. */
  #last: Promise<void> = Promise.resolve()

  constructor(rules: readonly BandwidthRule[], clock: Clock) {
    this.#rules = rules
    this.#clock = clock
    this.#filledAt = clock.monotonic()
  }

  /** Resolves when so many bytes may go; fails with `stopped` as soon as the signal aborts, and then takes nothing. */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    const turn = this.#last.then(() => this.#wait(bytes, signal))
    this.#last = turn.catch(() => {})
    return turn
  }

  /** Counts bytes that go in any case: others wait for them. */
  count(bytes: number): void {
    if (this.#fill() !== null) this.#tokens -= bytes
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      throwIfStopped(signal)
      const limit = this.#fill()
      if (limit === null) return
      if (this.#tokens >= 0) break
      await this.#sleep(Math.min(longestWaitMs, Math.ceil((-this.#tokens / limit) * 1000)), signal)
    }
    this.#tokens -= bytes
  }

  /** Time alone keeps no process alive (see Clock), but whoever waits here has something to do. */
  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const alive = setInterval(() => undefined, 2 ** 31 - 1)
    try {
      await this.#clock.sleep(ms, signal)
    } catch {
      throwIfStopped(signal)
    } finally {
      clearInterval(alive)
    }
  }

  /** Pays what is due for the time that has passed; gives the limit of now. */
  #fill(): number | null {
    const at = this.#clock.monotonic()
    const limit = limitAt(this.#rules, this.#clock.now())
    // Without a limit there is no debt.
    this.#tokens =
      limit === null ? 0 : Math.min(limit * burstSeconds, this.#tokens + ((at - this.#filledAt) / 1000) * limit)
    this.#filledAt = at
    return limit
  }
}
