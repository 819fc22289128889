import type { Clock } from '../../src/clock.ts'

interface Sleeper {
  readonly due: number
  readonly wake: () => void
}

/**
 * A clock that stands still until a test moves it.
 *
 * `advance` lets time pass: sleepers wake one by one in the order of their due times, each seeing exactly its due time,
 * and what they do in answer has settled before the next one wakes. `jump` moves the wall clock alone, as an operator or
 * NTP would: no sleeper wakes, `monotonic` stays.
 */
export class FakeClock implements Clock {
  #wall: number
  #monotonic = 0
  readonly #sleepers = new Set<Sleeper>()

  constructor(now: Date | string = '2026-03-01T00:00:00.000Z') {
    this.#wall = new Date(now).getTime()
  }

  now(): Date {
    return new Date(this.#wall)
  }

  monotonic(): number {
    return this.#monotonic
  }

  /** How many calls of `sleep` have not ended yet. */
  get sleeping(): number {
    return this.#sleepers.size
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const stop = () => {
        this.#sleepers.delete(sleeper)
        reject(signal?.reason)
      }
      const sleeper: Sleeper = {
        due: this.#monotonic + Math.max(0, ms),
        wake: () => {
          this.#sleepers.delete(sleeper)
          signal?.removeEventListener('abort', stop)
          resolve()
        },
      }
      signal?.addEventListener('abort', stop, { once: true })
      this.#sleepers.add(sleeper)
    })
  }

  /** Lets `ms` milliseconds pass; 0 only wakes what is due and lets pending work settle. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms
    await settle()
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#pass(Math.max(0, next.due - this.#monotonic))
      next.wake()
      await settle()
    }
    this.#pass(end - this.#monotonic)
    await settle()
  }

  /** Sets the wall clock, forward or back. */
  jump(to: Date | string): void {
    this.#wall = new Date(to).getTime()
  }

  #pass(ms: number): void {
    this.#monotonic += ms
    this.#wall += ms
  }

  /** The sleeper that is due first, at `end` at the latest; of equals the one that fell asleep first. */
  #next(end: number): Sleeper | undefined {
    let first: Sleeper | undefined
    for (const sleeper of this.#sleepers) {
      if (sleeper.due <= end && (first === undefined || sleeper.due < first.due)) first = sleeper
    }
    return first
  }
}

/**
 * Gives pending promises and callbacks of finished I/O their turn. It cannot know of I/O that the kernel has not finished:
 * for that, wait for an event or a promise of the thing under test.
 */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    await new Promise<void>((resolve) => {
      setImmediate(resolve)
    })
  }
}
