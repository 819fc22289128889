import { Readable } from 'node:stream'
import { Type } from 'typebox'
import type { Clock } from '../../clock.ts'
import type { Run } from '../../runner/job.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies, HttpLimits, RunnerPort } from '../ports.ts'
import { HttpError } from '../problem.ts'
import { problems, RunParams } from '../schemas.ts'
import { hasEnded, requireRun } from './runs.ts'

/** Shorter than the idle timeouts of common proxies (60 s), and than our own. */
const heartbeatMs = 15_000

/**
 * `GET /api/runs/:id/events`: a run as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 * Each event is named `run` and carries the whole run: first as it is now, then after each change. The stream ends with
 * the run, with the client, or with the server.
 */
export function runEventRoutes(app: App, { runner, clock }: HttpDependencies, limits: HttpLimits): void {
  const open = new Set<AbortController>()
  // Without this, closing the server would wait for the last client to leave.
  app.addHook('preClose', async () => {
    for (const stream of open) stream.abort()
  })
  app.get(
    '/api/runs/:id/events',
    {
      config: { access: 'viewer' },
      // HEAD would have to open a stream to say what GET would.
      exposeHeadRoute: false,
      schema: {
        tags: ['runs'],
        security: [{ bearer: [] }],
        summary: 'Follow one run until it ends',
        description:
          'Events named `run`, each with the whole run as JSON; a comment every 15 s keeps the stream alive.',
        params: RunParams,
        response: {
          200: {
            description: 'Server-sent events',
            content: { 'text/event-stream': { schema: Type.Unsafe<Readable>({ type: 'string' }) } },
          },
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const run = requireRun(runner, request.params.id)
      if (open.size >= limits.eventStreams) {
        throw new HttpError('too-busy', 'too many event streams are open', `poll /api/runs/${run.id} instead`)
      }
      const ended = new AbortController()
      open.add(ended)
      reply.raw.once('close', () => {
        open.delete(ended)
        ended.abort()
      })
      const frames = runEvents(run, runner, clock, ended.signal)
      reply.headers({
        'content-type': 'text/event-stream',
        // The end of the stream is the end of the connection, so that closing the server need not wait for it.
        connection: 'close',
        // A proxy that buffers would hold the events back (nginx reads this).
        'x-accel-buffering': 'no',
      })
      return reply.send(Readable.from(frames, { objectMode: false, highWaterMark: 1 }))
    },
  )
}

/**
 * The frames of one stream. A client that reads slowly never makes the server remember more than one change for each
 * state: of several changes within one state it gets the last. What another process does to the run is not announced
 * here, so each heartbeat looks for it.
 */
export async function* runEvents(
  run: Run,
  runner: Pick<RunnerPort, 'get' | 'onChange'>,
  clock: Clock,
  ended: AbortSignal,
): AsyncGenerator<string> {
  const changes: Run[] = []
  let wake = () => {}
  let sent = ''
  const unsubscribe = runner.onChange((changed) => {
    if (changed.id !== run.id) return
    if (changes.at(-1)?.state === changed.state) changes.pop()
    changes.push(changed)
    wake()
  })
  // Looked at again: it may have changed between the request and the first read of this stream.
  changes.unshift(runner.get(run.id) ?? run)
  try {
    while (!ended.aborted) {
      const change = changes.shift()
      if (change) {
        sent = JSON.stringify(change)
        yield `event: run\ndata: ${sent}\n\n`
        if (hasEnded(change)) return
        continue
      }
      const woken = new AbortController()
      wake = () => woken.abort()
      ended.addEventListener('abort', wake, { once: true })
      const beat = await clock.sleep(heartbeatMs, woken.signal).then(
        () => true,
        () => false,
      )
      ended.removeEventListener('abort', wake)
      if (!beat || changes.length > 0) continue
      const present = runner.get(run.id)
      if (present === null) return
      if (JSON.stringify(present) === sent) yield ': heartbeat\n\n'
      else changes.push(present)
    }
  } finally {
    unsubscribe()
  }
}
