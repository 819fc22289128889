import { type Clock, withDeadline } from '../clock.ts'
import type { NotifyConfig, RunEvent } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { abortable } from '../runner/abortable.ts'
import type { Run } from '../runner/job.ts'
import { pingBody, pingUrl, signature, webhookBody } from './payload.ts'

export interface DeliveryOptions {
  readonly target: NotifyConfig
  readonly cluster: string
  readonly version: string
  readonly event: RunEvent
  readonly run: Run
  readonly clock: Clock
  /** 0 to 1, for the waits between attempts. */
  readonly random: () => number
  readonly signal: AbortSignal
  /** Called with what was wrong, before a wait. */
  readonly onWait: (why: string, waitMs: number) => void
}

const firstDelayMs = 1_000
const longestDelayMs = 60_000
const longestRetryAfterMs = 300_000
/** For all attempts together: later it is no news. */
const longestMs = 3_600_000

/** Answers that may be another one later. */
const passingStatus = new Set([408, 425, 429])

/**
 * Sends one message, again and again while it fails for a cause that can pass, each time a little later. The messages of
 * its errors never name the URL: it may be a secret.
 *
 * @throws LifeboatError `program-failed` when it was refused or could not be delivered; the signal's reason
 */
export async function deliver(options: DeliveryOptions): Promise<void> {
  const { target, clock, random, signal, onWait } = options
  const begun = clock.monotonic()
  for (let attempt = 0; ; attempt += 1) {
    const outcome = await attemptOnce(options)
    signal.throwIfAborted()
    if (outcome.delivered) return
    const wait = Math.max(random() * Math.min(longestDelayMs, firstDelayMs * 2 ** attempt), outcome.retryAfterMs)
    const isLate = clock.monotonic() + wait - begun > longestMs
    if (!outcome.canPass || attempt >= target.retries || isLate) {
      throw new LifeboatError('program-failed', `notification ${target.name} was not delivered: ${outcome.why}`, {
        hint: 'see whether the receiver answers, and whether its URL is right',
      })
    }
    onWait(outcome.why, wait)
    await clock.sleep(wait, signal)
  }
}

type Outcome =
  | { readonly delivered: true }
  | { readonly delivered: false; readonly canPass: boolean; readonly why: string; readonly retryAfterMs: number }

async function attemptOnce(options: DeliveryOptions): Promise<Outcome> {
  const { target, clock, signal } = options
  const ms = target.timeoutMs
  const reason = new DOMException('late', 'TimeoutError')
  try {
    return await withDeadline(clock, { ms, reason, signals: [signal] }, (limit) => send(options, limit))
  } catch (error) {
    // Only the code: messages of the network name addresses, and those of the URL parser URLs.
    const { code, name } = error as { code?: unknown; name?: unknown }
    const network = name === 'TimeoutError' ? `no answer within ${ms} ms` : String(code ?? name)
    // A file with a URL or a key may just be being replaced by a new one.
    const why = error instanceof LifeboatError ? error.message : network
    return { delivered: false, canPass: code !== 'ERR_INVALID_URL', why, retryAfterMs: 0 }
  }
}

async function send(
  { target, cluster, version, event, run, clock }: DeliveryOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const url = await abortable(target.url(), signal)
  const isPing = target.kind === 'healthchecks'
  const body = isPing ? pingBody(run) : webhookBody(cluster, event, run)
  const secret = isPing || target.secret === null ? null : await abortable(target.secret(), signal)
  // Here, not above: most sidecars tell nobody, and it takes 4 MB.
  const { request } = await import('undici')
  signal.throwIfAborted()
  const {
    statusCode,
    headers,
    body: answer,
  } = await request(isPing ? pingUrl(url, event) : url, {
    method: 'POST',
    body,
    headers: {
      'content-type': isPing ? 'text/plain; charset=utf-8' : 'application/json',
      'user-agent': `lifeboat/${version}`,
      'lifeboat-event-id': `${run.id}-${event}`,
      ...(secret ? { 'lifeboat-signature': signature(secret, Math.floor(clock.now().getTime() / 1000), body) } : {}),
    },
    // Redirects are not followed: what is meant for one receiver is for no other.
    signal,
  })
  answer.on('error', () => {})
  answer.destroy() // whatever it says, and however long it is
  if (statusCode >= 200 && statusCode < 300) return { delivered: true }
  return {
    delivered: false,
    canPass: passingStatus.has(statusCode) || statusCode >= 500,
    why: `it was answered with ${statusCode}`,
    retryAfterMs: retryAfter(headers['retry-after'], clock.now()),
  }
}

/** Milliseconds from seconds or a date (RFC 9110, 10.2.3); 0 for anything else. */
function retryAfter(header: string | string[] | undefined, now: Date): number {
  if (typeof header !== 'string') return 0
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now.getTime()
  return ms > 0 ? Math.min(ms, longestRetryAfterMs) : 0
}
