import type { Clock } from '../clock.ts'
import type { NotifyConfig, RunEvent } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
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
}

const firstDelayMs = 1_000
const longestDelayMs = 60_000
const longestRetryAfterMs = 300_000

/** Answers that may be another one later. */
const passingStatus = new Set([408, 425, 429])

/**
 * Sends one message, again and again while it fails for a cause that can pass, each time a little later. The messages of
 * its errors never name the URL: it may be a secret.
 *
 * @throws LifeboatError `program-failed` when it was refused or could not be delivered; the signal's reason
 */
export async function deliver(options: DeliveryOptions): Promise<void> {
  const { target, clock, random, signal } = options
  for (let attempt = 0; ; attempt += 1) {
    const outcome = await attemptOnce(options)
    signal.throwIfAborted()
    if (outcome.delivered) return
    if (!outcome.canPass || attempt >= target.retries) {
      throw new LifeboatError('program-failed', `notification ${target.name} was not delivered: ${outcome.why}`, {
        hint: 'see whether the receiver answers, and whether its URL is right',
      })
    }
    const wait = random() * Math.min(longestDelayMs, firstDelayMs * 2 ** attempt)
    await clock.sleep(Math.max(wait, outcome.retryAfterMs), signal)
  }
}

type Outcome =
  | { readonly delivered: true }
  | { readonly delivered: false; readonly canPass: boolean; readonly why: string; readonly retryAfterMs: number }

async function attemptOnce({ target, cluster, version, event, run, clock, signal }: DeliveryOptions): Promise<Outcome> {
  try {
    const url = await target.url()
    const isPing = target.kind === 'healthchecks'
    const body = isPing ? pingBody(run) : webhookBody(cluster, event, run)
    const secret = isPing ? null : await target.secret?.()
    // Here, not above: most sidecars tell nobody, and it takes 4 MB.
    const { request } = await import('undici')
    const answer = await request(isPing ? pingUrl(url, event) : url, {
      method: 'POST',
      body,
      headers: {
        'content-type': isPing ? 'text/plain; charset=utf-8' : 'application/json',
        'user-agent': `lifeboat/${version}`,
        'lifeboat-event-id': `${run.id}-${event}`,
        ...(secret ? { 'lifeboat-signature': signature(secret, Math.floor(clock.now().getTime() / 1000), body) } : {}),
      },
      // Redirects are not followed: what is meant for one receiver is for no other.
      signal: AbortSignal.any([signal, AbortSignal.timeout(target.timeoutMs)]),
      headersTimeout: target.timeoutMs,
      bodyTimeout: target.timeoutMs,
    })
    answer.body.on('error', () => {})
    answer.body.destroy() // whatever it says, and however long it is
    const { statusCode } = answer
    if (statusCode >= 200 && statusCode < 300) return { delivered: true }
    const canPass = passingStatus.has(statusCode) || statusCode >= 500
    return {
      delivered: false,
      canPass,
      why: `it was answered with ${statusCode}`,
      retryAfterMs: retryAfter(answer.headers['retry-after']),
    }
  } catch (error) {
    // Only the code: messages of the network name addresses.
    const { code, name } = error as { code?: unknown; name?: unknown }
    const why = name === 'TimeoutError' ? `no answer within ${target.timeoutMs} ms` : String(code ?? name)
    const isOurs = error instanceof LifeboatError || code === 'ERR_INVALID_URL'
    return {
      delivered: false,
      canPass: !isOurs,
      why: error instanceof LifeboatError ? error.message : why,
      retryAfterMs: 0,
    }
  }
}

/** Seconds, as in RFC 9110 (10.2.3); a date is as good as nothing here. */
function retryAfter(header: string | string[] | undefined): number {
  const seconds = Number(typeof header === 'string' ? header : Number.NaN)
  return seconds >= 0 ? Math.min(seconds * 1000, longestRetryAfterMs) : 0
}
