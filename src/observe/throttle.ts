import type { Clock } from '../clock.ts'

export interface Throttle {
  /** Asks for the action: at once, or as soon as it may run again. Requests made meanwhile are folded into that one. */
  request(): void
  /** Runs the action now if one is waiting, whatever the spacing says. */
  flush(): void
  /** Forgets what is waiting; later requests do nothing. */
  stop(): void
}

export interface ThrottleOptions {
  readonly clock: Clock
  /** Wait at least this long after a request, so that a burst becomes one action, milliseconds. */
  readonly delayMs: number
  /** Never run more often than once in this time, milliseconds. */
  readonly spacingMs: number
  /** Must not throw. */
  readonly action: () => void
}

/** Folds many requests into few actions. Waits by the injected clock alone. */
export function createThrottle({ clock, delayMs, spacingMs, action }: ThrottleOptions): Throttle {
  let lastRun = Number.NEGATIVE_INFINITY
  let waiting: AbortController | null = null
  let stopped = false

  function run(): void {
    waiting?.abort()
    waiting = null
    lastRun = clock.monotonic()
    action()
  }

  async function runAfter(ms: number, controller: AbortController): Promise<void> {
    try {
      await clock.sleep(ms, controller.signal)
    } catch {
      return
    }
    // A flush between the end of the sleep and this line has done the work already.
    if (waiting === controller) run()
  }

  return {
    request() {
      if (stopped || waiting !== null) return
      const wait = Math.max(delayMs, lastRun + spacingMs - clock.monotonic())
      if (wait <= 0) {
        run()
        return
      }
      waiting = new AbortController()
      void runAfter(wait, waiting)
    },
    flush() {
      if (waiting !== null) run()
    },
    stop() {
      stopped = true
      waiting?.abort()
      waiting = null
    },
  }
}
