import { createHmac } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { NotifyConfig } from '../../src/config/validated.ts'
import { createNotifier } from '../../src/notify/notifier.ts'
import type { Run, RunState } from '../../src/runner/job.ts'
import { keptLog } from '../support/log.ts'

interface Received {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** A real receiver that answers as the test says. */
async function receiver(t: Test, answer: (response: ServerResponse, number: number) => void) {
  const received: Received[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      received.push({ path: request.url ?? '', headers: request.headers, body })
      answer(response, received.length)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { received, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const ok = (response: ServerResponse) => response.end('thanks')

function target(url: string, more: Partial<NotifyConfig> = {}): NotifyConfig {
  return {
    name: 'ops',
    kind: 'webhook',
    url: async () => url,
    secret: null,
    events: ['start', 'success', 'failure'],
    jobs: ['dump', 'verify'],
    timeoutMs: 2_000,
    retries: 3,
    ...more,
  }
}

function run(state: RunState, more: Partial<Run> = {}): Run {
  return {
    id: '20260101T020000Z-dump-abcdef',
    job: 'dump',
    lane: 'backup',
    params: { database: null },
    trigger: 'schedule',
    requestedBy: null,
    state,
    requestedAt: '2026-01-01T02:00:00.000Z',
    startedAt: '2026-01-01T02:00:00.000Z',
    finishedAt: state === 'running' ? null : '2026-01-01T02:01:00.000Z',
    progress: null,
    items: [],
    hooks: [],
    failure: null,
    ...more,
  }
}

function notify(targets: readonly NotifyConfig[]) {
  const { log, lines } = keptLog()
  // No waits between attempts.
  const notifier = createNotifier({
    targets,
    cluster: 'spavix',
    version: '1',
    clock: systemClock,
    log,
    random: () => 0,
  })
  return { notifier, lines }
}

t.test('a webhook is signed, and each event comes once', async (t) => {
  const { received, url } = await receiver(t, ok)
  const { notifier } = notify([target(`${url}/hook?x=1`, { secret: async () => 'key' })])
  notifier.runChanged(run('queued'))
  notifier.runChanged(run('running'))
  notifier.runChanged(run('running', { progress: { done: 1, total: 2, unit: 'bytes' } }))
  const failure = { code: 'disk-full', message: 'no space' } as const
  const items = [
    { outcome: 'failed', backupType: 'dump', database: 'it\'s "odd"\n', finishedAt: '2026-01-01T02:01:00.000Z' },
  ] as const
  notifier.runChanged(run('failed', { failure, items }))
  notifier.runChanged(run('failed', { failure, items }))
  notifier.runChanged(run('succeeded', { id: 'x', job: 'expire' }))
  await notifier.stop()
  t.equal(received.length, 2)
  const [start, end] = received as [Received, Received]
  t.match(JSON.parse(start.body), {
    version: 1,
    event: 'start',
    cluster: 'spavix',
    run: { job: 'dump', state: 'running' },
    failure: null,
  })
  t.match(JSON.parse(end.body), {
    event: 'failure',
    failure: { code: 'disk-full', message: 'no space', hint: null },
    items: [{ database: 'it\'s "odd"\n', outcome: 'failed', repository: null }],
    itemsTotal: 1,
  })
  t.equal(end.path, '/hook?x=1')
  t.equal(end.headers['lifeboat-event-id'], '20260101T020000Z-dump-abcdef-failure')
  const [, at, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(end.headers['lifeboat-signature'])) ?? []
  t.equal(mac, createHmac('sha256', 'key').update(`${at}.${end.body}`).digest('hex'))
  t.match(notifier.states(), [{ target: 'ops', failures: 0, lastSuccessAt: Date }])
})

t.test('pings', async (t) => {
  const { received, url } = await receiver(t, ok)
  const { notifier } = notify([target(`${url}/0000-uuid`, { kind: 'healthchecks' })])
  notifier.runChanged(run('running'))
  notifier.runChanged(run('succeeded'))
  notifier.runChanged(run('running', { id: 'b' }))
  notifier.runChanged(run('cancelled', { id: 'b', failure: { code: 'cancelled', message: 'on request' } }))
  await notifier.stop()
  t.same(
    received.map(({ path }) => path),
    ['/0000-uuid/start', '/0000-uuid', '/0000-uuid/start', '/0000-uuid/fail'],
  )
  t.equal(received[3]?.body, 'dump b cancelled: cancelled: on request')
})

t.test('what can pass is tried again, what cannot is not', async (t) => {
  const answers = [503, 429, 200]
  const busy = await receiver(t, (response, number) => response.writeHead(answers[number - 1] ?? 200).end())
  const first = notify([target(busy.url)])
  first.notifier.runChanged(run('succeeded'))
  await first.notifier.stop()
  t.equal(busy.received.length, 3)
  t.equal(first.notifier.states()[0]?.failures, 0)

  for (const status of [400, 401, 404, 410, 302]) {
    const refusing = await receiver(t, (response) => response.writeHead(status, { location: busy.url }).end())
    const { notifier, lines } = notify([target(`${refusing.url}/secret-path`)])
    notifier.runChanged(run('succeeded'))
    await notifier.stop()
    t.equal(refusing.received.length, 1, `${status}`)
    t.match(lines, [{ msg: 'notification was not delivered', message: new RegExp(`answered with ${status}`) }])
    t.notMatch(JSON.stringify(lines), 'secret-path', 'the URL is a secret')
    t.equal(notifier.states()[0]?.failures, 1)
  }
  t.equal(busy.received.length, 3, 'no redirect was followed')

  const resetting = await receiver(t, (response) => response.socket?.resetAndDestroy())
  const { notifier, lines } = notify([target(`${resetting.url}/secret-path`)])
  notifier.runChanged(run('succeeded'))
  await notifier.stop()
  t.equal(resetting.received.length, 4, 'once and three times more')
  t.notMatch(JSON.stringify(lines), 'secret-path')
  const nowhere = notify([target('http://127.0.0.1:1/x')])
  nowhere.notifier.runChanged(run('succeeded'))
  await nowhere.notifier.stop()
  t.match(nowhere.lines, [{ message: /ECONNREFUSED/ }])
})

t.test('a receiver that hangs, or talks for ever', { timeout: 30_000 }, async (t) => {
  const silent = await receiver(t, () => {})
  const { notifier, lines } = notify([target(silent.url, { timeoutMs: 300, retries: 1 })])
  notifier.runChanged(run('succeeded'))
  await notifier.stop()
  t.match(lines, [{ message: /no answer within 300 ms/ }])

  const endless = await receiver(t, (response) => {
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536)));
    }
    response.on('drain', more)
    more()
  })
  const talked = notify([target(endless.url)])
  talked.notifier.runChanged(run('succeeded'))
  await talked.notifier.stop()
  t.equal(talked.notifier.states()[0]?.failures, 0)

  const hanging = await receiver(t, () => {})
  const many = notify([target(hanging.url, { timeoutMs: 60_000 })])
  for (let number = 0; number < 300; number += 1) many.notifier.runChanged(run('succeeded', { id: `r${number}` }))
  t.ok(many.lines.some(({ msg }) => /oldest was dropped/.test(String(msg))))
  const begun = systemClock.monotonic()
  await many.notifier.stop()
  t.ok(systemClock.monotonic() - begun < 8_000, 'a stop waits a short grace, and not for ever')
})
