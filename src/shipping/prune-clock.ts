import type { Clock } from '../clock.ts'

/** How much faster than it really does time may pass, by this clock. */
const fastest = 2

/**
 * The time by which files are old enough to be pruned: the wall clock's, as far as something bears witness to it. It begins
 * with when the newest segment was written, and from then on gets nearer to the wall clock at twice the speed at which time
 * really passes. So a clock that jumps ahead by a week makes nothing old at once: it takes a week, in which somebody
 * may see it. One that goes back only keeps more.
 */
export class PruneClock {
  readonly #clock: Clock
  #at: { readonly wallMs: number; readonly monotonicMs: number } | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** @param newest when the newest segment was written */
  now(newest: Date): number {
    const [wallMs, monotonicMs] = [this.#clock.now().getTime(), this.#clock.monotonic()]
    const reached =
      this.#at === null ? newest.getTime() : this.#at.wallMs + fastest * (monotonicMs - this.#at.monotonicMs)
    this.#at = { wallMs: Math.min(wallMs, reached), monotonicMs }
    return this.#at.wallMs
  }
}
