import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { CollectorState } from './catalog.ts'

/** One observer: it looks at something again and again, and keeps the last value that it saw. */
export interface Collector<T> {
  readonly name: string
  /** A new frozen object after each look. */
  state(): CollectorState
  /** What the last successful look gave; null before the first. A failing look leaves it as it is. */
  value(): T | null
  /** Looks now and then every interval, until `stop`. */
  start(): void
  /**
   * Looks on demand. Resolves when a look that began after this call has ended, well or not; never rejects. Requests
   * made during a look share the one that follows it. While a hung look blocks new ones it resolves at once: `state`
   * says that the collector fails.
   */
  refresh(): Promise<void>
  /** Aborts the look under way and waits up to a second for it. Afterwards nothing changes any more. */
  stop(): Promise<void>
}

export interface CollectorOptions<T> {
  readonly name: string
  /** Should end soon after the signal aborts; one that does not is left behind and its result dropped. */
  readonly look: (signal: AbortSignal) => Promise<T>
  readonly clock: Clock
  readonly log: Logger
  /** From the end of one look to the start of the next. */
  readonly intervalSeconds: number
  /** The same, after a look that failed. Default: `intervalSeconds`. */
  readonly retrySeconds?: number
  /** A look that takes longer has failed. */
  readonly timeoutSeconds: number
  /** Called after every look, when `state` and `value` are new. Must not throw. */
  readonly onChange: () => void
}

const stopGraceMs = 1_000
const longestPauseMs = 3_600_000
const turnsUntilOld = 3

export function createCollector<T>(options: CollectorOptions<T>): Collector<T> {
  const { name, look, clock, log, intervalSeconds, timeoutSeconds, onChange } = options
  const { retrySeconds = intervalSeconds } = options
  const maxAgeSeconds = turnsUntilOld * (intervalSeconds + timeoutSeconds)
  const stopping = new AbortController()
  let state: CollectorState = Object.freeze({
    collector: name,
    success: null,
    durationSeconds: null,
    lastSuccessAt: null,
    failure: null,
    maxAgeSeconds,
  })
  let value: T | null = null
  let loop: Promise<void> | null = null
  let current: Promise<void> | null = null
  let following: Promise<void> | null = null
  let looking: AbortController | null = null

  // Looks that went past their deadline and have not come back. Each may hold a thread or a connection, so a new look
  // is tried ever more seldom while there are any; but it is tried, since a look may be lost for good.
  let abandoned = 0
  let pausedUntil = Number.NEGATIVE_INFINITY

  function abandon(pending: Promise<unknown>): void {
    abandoned++
    const pause = Math.min(intervalSeconds * 1000 * 2 ** abandoned, longestPauseMs)
    pausedUntil = clock.monotonic() + pause
    const forget = () => {
      abandoned--
    }
    pending.then(forget, forget)
  }

  function ended(startedAt: number, failure: Failure | null): void {
    const former = state.failure
    state = Object.freeze({
      collector: name,
      success: failure === null,
      durationSeconds: (clock.monotonic() - startedAt) / 1000,
      lastSuccessAt: failure === null ? clock.now() : state.lastSuccessAt,
      failure,
      maxAgeSeconds,
    })
    // One line when it begins to fail (or fails otherwise) and one when it recovers, not one every interval.
    if (failure !== null && former?.message !== failure.message) log.warn({ collector: name, failure }, 'look failed')
    if (failure === null && former !== null) log.info({ collector: name }, 'look works again')
    onChange()
  }

  async function lookOnce(): Promise<void> {
    if (abandoned > 0 && clock.monotonic() < pausedUntil) return
    const startedAt = clock.monotonic()
    const controller = new AbortController()
    looking = controller
    const deadline = new AbortController()
    const late = new LifeboatError('timed-out', `looking at ${name} took longer than ${timeoutSeconds} s`, {
      hint: 'See whether the disk or the server behind it answers at all; if it is only slow, raise observe.timeout.',
    })
    const pending = Promise.resolve().then(() => look(controller.signal))
    try {
      const result = await Promise.race([
        pending.then((found) => ({ found })),
        clock.sleep(timeoutSeconds * 1000, deadline.signal).then(() => null),
      ])
      if (stopping.signal.aborted) return
      if (result === null) {
        abandon(pending)
        throw late
      }
      value = result.found
      ended(startedAt, null)
    } catch (error) {
      if (!stopping.signal.aborted) ended(startedAt, toFailure(error))
    } finally {
      looking = null
      deadline.abort()
      // Aborted only now: a look that rejects on its abort must not be taken for one that failed in time.
      controller.abort(late)
    }
  }

  function refresh(): Promise<void> {
    if (stopping.signal.aborted) return Promise.resolve()
    if (current === null) {
      current = lookOnce().finally(() => {
        current = null
      })
      return current
    }
    // The look under way may have passed by the very thing that changed: only the next one is sure to see it.
    following ??= current.then(() => {
      following = null
      return refresh()
    })
    return following
  }

  async function repeat(): Promise<void> {
    while (!stopping.signal.aborted) {
      await refresh()
      try {
        const pause = state.success === false ? retrySeconds : intervalSeconds
        await clock.sleep(pause * 1000, stopping.signal)
      } catch {
        return
      }
    }
  }

  return {
    name,
    state: () => state,
    value: () => value,
    start() {
      loop ??= repeat()
    },
    refresh,
    async stop() {
      stopping.abort()
      looking?.abort(new LifeboatError('cancelled', `looking at ${name} was stopped`))
      const grace = new AbortController()
      const quiet = Promise.all([loop, current, following])
      await Promise.race([quiet, clock.sleep(stopGraceMs, grace.signal).catch(() => undefined)])
      grace.abort()
    },
  }
}
