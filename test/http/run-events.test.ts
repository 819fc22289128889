import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { runEvents } from '../../src/http/routes/run-events.ts'
import type { Run } from '../../src/runner/job.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type Harness, startHttp } from './harness.ts'

/** Frames of an event stream as they arrive over a real socket. */
class EventStream {
  readonly response: IncomingMessage
  readonly #frames: AsyncIterator<string>

  constructor(response: IncomingMessage) {
    this.response = response
    this.#frames = frames(response)
  }

  async next(): Promise<string | null> {
    const { done, value } = await this.#frames.next()
    return done ? null : value
  }

  async nextRun(): Promise<Run> {
    const frame = await this.next()
    const match = /^event: run\ndata: (.*)$/.exec(frame ?? '')
    if (!match) throw new Error(`not a run: ${frame}`)
    return JSON.parse(match[1] ?? '')
  }
}

async function* frames(response: IncomingMessage): AsyncGenerator<string> {
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield text.slice(0, end)
      text = text.slice(end + 2)
    }
  }
}

async function follow({ app }: Harness, id: string): Promise<EventStream> {
  if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const request = get({ host: '127.0.0.1', port, path: `/api/runs/${id}/events`, agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  // Its end is told by the frames; a connection that the test cuts itself is no fault.
  response.on('error', () => undefined)
  return new EventStream(response)
}

/** Tells how many listeners the runner has, and when one leaves. */
function watchListeners({ runner }: Harness) {
  const subscribe = runner.onChange.bind(runner)
  const state = { count: 0, left: Promise.withResolvers<void>() }
  runner.onChange = (listener) => {
    state.count += 1
    const unsubscribe = subscribe(listener)
    return () => {
      unsubscribe()
      state.count -= 1
      state.left.resolve()
    }
  }
  return state
}

const request = { job: 'dump', params: { database: null }, trigger: 'api', requestedBy: null } as const

await t.test('a run is followed from its present state to its end', async (t) => {
  const harness = await startHttp(t)
  const { clock, dump, runner } = harness
  const listeners = watchListeners(harness)
  const { id } = runner.trigger(request)
  const { context, finish } = await dump.at(0)
  const events = await follow(harness, id)
  t.match(events.response.headers, {
    'content-type': /^text\/event-stream/,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  t.match(await events.nextRun(), { id, state: 'running', progress: null })
  context.progress({ done: 1, total: 2, unit: 'steps', message: 'two\nlines\n\ndata: forged' })
  await clock.advance(1000)
  t.match(await events.nextRun(), { progress: { done: 1, message: 'two\nlines\n\ndata: forged' } })
  finish()
  t.match(await events.nextRun(), { state: 'succeeded' })
  t.equal(await events.next(), null, 'the stream ends with the run')
  await listeners.left.promise
  t.equal(listeners.count, 0)
  const late = await follow(harness, id)
  t.match(await late.nextRun(), { state: 'succeeded' })
  t.equal(await late.next(), null)
})

await t.test('a quiet stream is kept alive, and other runs are not told', async (t) => {
  const harness = await startHttp(t)
  const { clock, dump, verify, runner } = harness
  const { id } = runner.trigger(request)
  await dump.at(0)
  const events = await follow(harness, id)
  await events.nextRun()
  runner.trigger({ ...request, job: 'verify' })
  await verify.at(0)
  await clock.advance(14_999)
  await clock.advance(1)
  t.equal(await events.next(), ': heartbeat')
  await clock.advance(15_000)
  t.equal(await events.next(), ': heartbeat')
})

await t.test('a client that leaves is forgotten', async (t) => {
  const harness = await startHttp(t, {}, { eventStreams: 1 })
  const listeners = watchListeners(harness)
  const { id } = harness.runner.trigger(request)
  await harness.dump.at(0)
  const events = await follow(harness, id)
  await events.nextRun()
  t.equal(listeners.count, 1)
  const busy = await harness.call({ url: `/api/runs/${id}/events` })
  t.match([busy.status, busy.json().code, busy.headers['retry-after']], [503, 'too-busy', '5'])
  events.response.destroy()
  await listeners.left.promise
  t.equal(listeners.count, 0)
  const next = await follow(harness, id)
  t.match(await next.nextRun(), { id }, 'and makes place for another')
})

await t.test('closing the server ends the streams', async (t) => {
  const harness = await startHttp(t)
  const listeners = watchListeners(harness)
  const { id } = harness.runner.trigger(request)
  await harness.dump.at(0)
  const streams = [await follow(harness, id), await follow(harness, id)]
  for (const stream of streams) await stream.nextRun()
  const closed = harness.app.close()
  for (const stream of streams) t.equal(await stream.next(), null)
  await closed
  t.equal(listeners.count, 0)
})

await t.test('an unknown run has no events', async (t) => {
  const { call } = await startHttp(t)
  const answer = await call({ url: '/api/runs/20260301T000000Z-dump-ffffff/events' })
  t.match([answer.status, answer.json().code], [404, 'not-found'])
})

await t.test('the frames themselves', async (t) => {
  const run = (fields: Partial<Run>): Run => ({
    id: '20260301T000000Z-dump-abcdef',
    job: 'dump',
    lane: 'backup',
    params: {},
    trigger: 'api',
    requestedBy: null,
    state: 'queued',
    requestedAt: '2026-03-01T00:00:00.000Z',
    startedAt: null,
    finishedAt: null,
    progress: null,
    items: [],
    hooks: [],
    retries: 0,
    attempts: [],
    failure: null,
    ...fields,
  })
  const progress = (done: number) => run({ state: 'running', progress: { done, total: 1000, unit: 'steps' } })
  const ended = run({ state: 'failed', finishedAt: '2026-03-01T01:00:00.000Z' })

  /** A runner with one run, changed by the test, with or without telling. */
  function standIn() {
    const port = {
      present: run({}) as Run | null,
      listener: (_run: Run) => {},
      get: () => port.present,
      onChange: (listener: (run: Run) => void) => {
        port.listener = listener
        return () => {
          port.listener = () => {}
        }
      },
      change(to: Run) {
        port.present = to
        port.listener(to)
      },
    }
    return port
  }

  await t.test('who does not read gets the last change of each state', async (t) => {
    const port = standIn()
    const clock = new FakeClock()
    const stream = runEvents(run({}), port, clock, new AbortController().signal)
    t.match((await stream.next()).value, /"queued"/)
    for (let done = 0; done < 1000; done += 1) port.change(progress(done))
    port.change(ended)
    t.match((await stream.next()).value, /"done":999,/)
    t.match((await stream.next()).value, /"failed"/)
    t.ok((await stream.next()).done)
    t.equal(clock.sleeping, 0)
  })

  await t.test('what changed between the request and the first read is not missed', async (t) => {
    const port = standIn()
    const stream = runEvents(run({}), port, new FakeClock(), new AbortController().signal)
    port.present = progress(7)
    t.match((await stream.next()).value, /"done":7,/)
  })

  await t.test('what another process did to the run shows at the heartbeat', async (t) => {
    const port = standIn()
    const clock = new FakeClock()
    const stream = runEvents(run({}), port, clock, new AbortController().signal)
    await stream.next()
    const next = stream.next()
    port.present = ended
    await clock.advance(15_000)
    t.match((await next).value, /"failed"/)
    t.ok((await stream.next()).done)
  })

  await t.test('a run that was pruned ends its stream', async (t) => {
    const port = standIn()
    const clock = new FakeClock()
    const stream = runEvents(run({}), port, clock, new AbortController().signal)
    await stream.next()
    const next = stream.next()
    port.present = null
    await clock.advance(15_000)
    t.ok((await next).done)
  })
})
