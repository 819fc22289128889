import type { Clock } from '../clock.ts'
import { toFailure } from '../domain/errors.ts'
import { passingCause } from '../domain/transient.ts'
import type { FailedAttempt, JobContext } from '../runner/job.ts'

export interface RetryOptions {
  /** Attempts after the first one. */
  readonly retries: number
  /** The longest wait before the first of them; it doubles with each. */
  readonly delayMs: number
  readonly clock: Clock
  /** 0 to 1, e.g. Math.random. */
  readonly random: () => number
  readonly signal: AbortSignal
  readonly log: JobContext['log']
  /** Of failures that need not be tried again; left out: none. */
  readonly unless?: (error: unknown) => boolean
  /** In a few words, for log and progress. */
  readonly what: string
  readonly onWait?: (message: string) => void
  /** Called before each wait. */
  readonly onRetry?: (attempt: FailedAttempt) => void
}

const longestDelayMs = 5 * 60_000

/**
 * Does the work, and does it again a little later when it failed for a cause that can pass by itself. The wait is random
 * between nothing and twice that of the time before, so that several that failed together do not come back together
 * ("full jitter"). Ends at once when the signal aborts.
 *
 * @throws what the last attempt threw; the signal's reason
 */
export async function withRetries<T>(options: RetryOptions, work: (attempt: number) => Promise<T>): Promise<T> {
  const { retries, delayMs, clock, random, signal, log, what, unless, onWait, onRetry } = options
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work(attempt)
    } catch (error) {
      const cause = passingCause(error)
      if (signal.aborted || cause === null || attempt > retries || unless?.(error)) throw error
      const failure = toFailure(error)
      const wait = random() * Math.min(longestDelayMs, delayMs * 2 ** (attempt - 1))
      const words = `${what} failed, since ${cause}: attempt ${attempt + 1} of ${retries + 1} in ${Math.round(wait / 1000)} s`
      const waitSeconds = wait / 1000
      log.warn({ attempt, waitSeconds, failure }, words)
      onRetry?.({ what, failedAt: clock.now().toISOString(), failure, reason: cause, waitSeconds })
      onWait?.(words)
      await clock.sleep(wait, signal)
    }
  }
}
