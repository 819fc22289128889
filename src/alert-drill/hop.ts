import type { Clock } from '../clock.ts'
import type { DrillHopName } from '../domain/alert-drill.ts'
import { LifeboatError } from '../domain/errors.ts'

/** What a look at one of the places has found. */
export type Look =
  | { readonly state: 'passed'; readonly detail: string }
  /** It may still come. */
  | { readonly state: 'waiting'; readonly why: string; readonly hint: string }
  /** It will not come. */
  | { readonly state: 'failed'; readonly why: string; readonly hint: string }

export interface Explanation {
  readonly why: string
  readonly hint: string
}

export interface Hop {
  readonly hop: DrillHopName
  /** Completes "waiting for …". */
  readonly waitsFor: string
  readonly withinMs: number
  look(signal: AbortSignal): Promise<Look>
  /** A closer look at what is wrong, when the time is over; null: the last look has said it. */
  explain?(signal: AbortSignal): Promise<Explanation | null>
}

const pollMs = 500

/**
 * Looks until it has come. Gives what was seen.
 *
 * @throws LifeboatError `alert-drill-failed` that says what is wrong; the signal's reason
 */
export async function passHop(hop: Hop, { clock, signal }: { clock: Clock; signal: AbortSignal }): Promise<string> {
  const begun = clock.monotonic()
  for (;;) {
    const look = await hop.look(signal)
    if (look.state === 'passed') return look.detail
    if (look.state === 'failed') throw failed(hop, look)
    const left = hop.withinMs - (clock.monotonic() - begun)
    if (left <= 0) {
      const { why, hint } = (await hop.explain?.(signal)) ?? look
      throw failed(hop, { why: `${why}, after ${Math.round(hop.withinMs / 1000)} s`, hint })
    }
    await clock.sleep(Math.min(pollMs, left), signal)
  }
}

function failed({ hop }: Hop, { why, hint }: Explanation): LifeboatError {
  return new LifeboatError('alert-drill-failed', `the alert drill ended at ${places[hop]}: ${why}`, {
    hint,
    details: { hop, why },
  })
}

const places: Readonly<Record<DrillHopName, string>> = {
  sidecar: 'the sidecar',
  prometheus: 'Prometheus',
  alertmanager: 'Alertmanager',
  receiver: 'the receiver',
  resolved: 'its end',
}
