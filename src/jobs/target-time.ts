import { type Clock, withDeadline } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { VerdictError } from './level-recorder.ts'

/** Kept for the verdict of the last one: a run that is ended by its own timeout gives none. */
const closingMs = 60_000

/**
 * Milliseconds that the next backup of a run may take: what the configuration says, else half of the time that is left, and
 * for the last one all of it. One that never ends thus leaves time for every other. And where the shortest come first none is
 * given up that the run has time for: what it needs, the next one needs as well, and so both do not need more than is left.
 */
export function timeForNext(
  { timeoutSeconds, targetTimeoutSeconds }: ValidatedConfig['verification'],
  { spentMs, isLast }: { readonly spentMs: number; readonly isLast: boolean },
): number {
  const wholeMs = timeoutSeconds * 1000
  const leftMs = Math.max(0, wholeMs - spentMs - Math.min(closingMs, wholeMs / 10))
  if (targetTimeoutSeconds !== null) return Math.min(targetTimeoutSeconds * 1000, leftMs)
  return isLast ? leftMs : leftMs / 2
}

/**
 * Looks at one backup for so long at most. The signal's reason is a VerdictError then, so that the look that it ended is
 * noted as `inconclusive`, `timed-out`, beside all that was found before.
 */
export function withinTime<T>(
  { clock, ms, signal }: { readonly clock: Clock; readonly ms: number; readonly signal: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const words = `given up after ${Math.round(ms / 1000)} s, to have time for other backups`
  return withDeadline(
    clock,
    { ms, reason: new VerdictError('inconclusive', 'timed-out', 'time', words), signals: [signal] },
    work,
  )
}
