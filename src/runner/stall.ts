import type { Progress } from './job.ts'

/** A run whose progress stands still for so long is worth a look, though only its timeout ends it. */
export const stallMs = 10 * 60_000

/**
 * Watches the progress of one run that began at `begun`. Called now and then with the newest progress, it gives true once
 * when nothing has moved for `stallMs`, and again only after something did. Moments are milliseconds of a monotonic clock.
 */
export function createStallWatch(begun: number): (progress: Progress | null, now: number) => boolean {
  let last: Progress | null = null
  let movedAt = begun
  let told = false
  return (progress, now) => {
    if (progress?.done !== last?.done || progress?.total !== last?.total || progress?.message !== last?.message) {
      last = progress
      movedAt = now
      told = false
    }
    if (told || now - movedAt < stallMs) return false
    told = true
    return true
  }
}
