import { createHmac } from 'node:crypto'
import type { RunEvent } from '../config/validated.ts'
import type { Failure } from '../domain/errors.ts'
import type { Run } from '../runner/job.ts'
import { withoutData } from './without-data.ts'

/** Items of a run that are told of; a run of a thousand databases has a thousand. */
const mostItems = 100

/** The event that a state of a run is; null: none. A cancelled run is a failure to whoever waits for a success. */
export function eventOf({ state }: Pick<Run, 'state'>): RunEvent | null {
  switch (state) {
    case 'queued':
      return null
    case 'running':
      return 'start'
    case 'succeeded':
      return 'success'
    case 'failed':
    case 'cancelled':
      return 'failure'
  }
}

/** The body of a webhook; docs/hooks.md describes it. New members may come; none goes or changes its meaning in version 1. */
export function webhookBody(cluster: string, event: RunEvent, run: Run): string {
  const { id, job, trigger, state, requestedAt, startedAt, finishedAt, failure, items, hooks } = run
  return JSON.stringify({
    version: 1,
    event,
    cluster,
    run: { id, job, trigger, state, requestedAt, startedAt, finishedAt },
    failure: failure === null ? null : { code: failure.code, message: toldOf(failure), hint: failure.hint ?? null },
    items: items.slice(0, mostItems).map(({ outcome, backupType, database, repository, backupId, verdict }) => ({
      outcome,
      backupType,
      database,
      repository: repository ?? null,
      backupId: backupId ?? null,
      verdict: verdict ?? null,
    })),
    itemsTotal: items.length,
    hooks: hooks.map(({ name, when, outcome }) => ({ name, when, outcome })),
  })
}

/** Verdicts and assertions quote what was found in a restored copy, and the server what it chokes on. */
function toldOf({ code, message }: Failure): string {
  return withoutData(message, code === 'server-error' || code === 'verification-failed')
}

/**
 * The header `Lifeboat-Signature`: HMAC-SHA-256 over the time, a dot and the body, so that neither can be changed and an old
 * message cannot be sent again much later.
 *
 * @param at seconds since 1970
 */
export function signature(secret: string, at: number, body: string): string {
  return `t=${at},v1=${createHmac('sha256', secret).update(`${at}.${body}`).digest('hex')}`
}

/** What a ping carries: healthchecks.io shows the first 100 kB of it. */
export function pingBody({ id, job, state, failure }: Run): string {
  return `${job} ${id} ${state}${failure === null ? '' : `: ${failure.code}: ${toldOf(failure)}`}`.slice(0, 10_000)
}

/** Where a ping goes. Source: https://healthchecks.io/docs/http_api/ */
export function pingUrl(url: string, event: RunEvent): string {
  const suffix = { start: '/start', success: '', failure: '/fail' }[event]
  const target = new URL(url)
  target.pathname = `${target.pathname.replace(/\/$/, '')}${suffix}`
  return target.href
}
