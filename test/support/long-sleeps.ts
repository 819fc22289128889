import { type Clock, systemClock } from '../../src/clock.ts'

/** The system's clock, of which a test ends the sleeps of more than a minute: so nobody has to wait for a limit in hours. */
export function longSleeps(): { readonly clock: Clock; readonly endThem: () => void } {
  const sleeping = new Set<() => void>()
  return {
    clock: {
      ...systemClock,
      sleep: async (ms, signal) => {
        if (ms <= 60_000) return systemClock.sleep(ms, signal)
        const woken = Promise.withResolvers<void>()
        sleeping.add(woken.resolve)
        try {
          await Promise.race([woken.promise, systemClock.sleep(ms, signal)])
        } finally {
          sleeping.delete(woken.resolve)
        }
      },
    },
    endThem: () => {
      for (const wake of sleeping) wake()
    },
  }
}
