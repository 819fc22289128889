import { setTimeout as delay } from 'node:timers/promises'

/**
 * The only source of time. Everything that needs "now" or needs to wait is given a Clock, so that tests decide what
 * time it is and never sleep.
 */
export interface Clock {
  /** The current moment (wall clock, UTC). May jump: use `monotonic` for durations. */
  now(): Date
  /** Milliseconds from an arbitrary start, never going back. */
  monotonic(): number
  /** Resolves after `ms` milliseconds; rejects with the signal's reason as soon as it aborts. Never keeps the process alive on its own. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    signal?.throwIfAborted()
    try {
      await delay(ms, undefined, { ref: false, ...(signal ? { signal } : {}) })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  },
}

/**
 * Does work that may take so long: its signal aborts with `reason` after `ms` milliseconds, or before that with the reason
 * of one of `signals`.
 *
 * @throws what the work throws
 */
export async function withDeadline<T>(
  clock: Clock,
  { ms, reason, signals }: { ms: number; reason: unknown; signals: readonly AbortSignal[] },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const [late, over] = [new AbortController(), new AbortController()]
  clock.sleep(ms, over.signal).then(
    () => late.abort(reason),
    () => {},
  )
  try {
    return await work(AbortSignal.any([...signals, late.signal]))
  } finally {
    over.abort()
  }
}
