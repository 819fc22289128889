import { createHmac } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import t, { type Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import { readSecretFile } from '../../src/config/secrets.ts'
import type { NotifyConfig } from '../../src/config/validated.ts'
import { createNotifier } from '../../src/notify/notifier.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Run, RunState } from '../../src/runner/job.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'

interface Received {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** A real receiver that answers as the test says. */
async function receiver(
  t: Test,
  answer: (response: ServerResponse, number: number) => void,
  tls: { readonly key: string; readonly cert: string } | null = null,
) {
  const received: Received[] = []
  const listener: RequestListener = (request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      received.push({ path: request.url ?? '', headers: request.headers, body })
      answer(response, received.length)
    })
  }
  const server = tls === null ? createServer(listener) : createTlsServer(tls, listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { received, url: `http${tls === null ? '' : 's'}://127.0.0.1:${(server.address() as AddressInfo).port}` }
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
    retries: 0,
    attempts: [],
    failure: null,
    ...more,
  }
}

function notify(targets: readonly NotifyConfig[], clock: Clock = systemClock) {
  const { log, lines } = keptLog()
  // No waits between attempts.
  const notifier = createNotifier({
    targets,
    cluster: 'spavix',
    version: '1',
    clock,
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
  t.match(givenUp(nowhere.lines), [{ message: /ECONNREFUSED/ }])
})

t.test('a receiver that hangs, or talks for ever', { timeout: 30_000 }, async (t) => {
  const silent = await receiver(t, () => {})
  const { notifier, lines } = notify([target(silent.url, { timeoutMs: 300, retries: 1 })])
  notifier.runChanged(run('succeeded'))
  await notifier.stop()
  t.match(givenUp(lines), [{ message: /no answer within 300 ms/ }])

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

type Lines = readonly Record<string, unknown>[]
const waitsIn = (lines: Lines) => lines.filter(({ msg }) => msg === 'notification will be tried again').length
const givenUp = (lines: Lines) => lines.filter(({ msg }) => msg === 'notification was not delivered')

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = systemClock.monotonic() + 10_000
  while (!holds()) {
    if (systemClock.monotonic() > deadline) throw new Error(`never seen: ${what}`)
    await delay(5)
  }
}

t.test('the receiver says when to come back, in seconds or as a date', async (t) => {
  const clock = new FakeClock('2026-01-01T02:00:00.000Z')
  const later = ['60', 'Thu, 01 Jan 2026 02:03:00 GMT', 'soon', '99999999']
  const busy = await receiver(t, (response, number) =>
    response.writeHead(number > later.length ? 200 : 429, { 'retry-after': later[number - 1] ?? '' }).end(),
  )
  const { notifier, lines } = notify([target(busy.url, { retries: 9, timeoutMs: 300_000 })], clock)
  notifier.runChanged(run('succeeded'))
  const waits = async (received: number) => {
    await until(`wait ${received}`, () => waitsIn(lines) === received)
    t.equal(busy.received.length, received)
  }
  await waits(1)
  await clock.advance(59_000)
  t.equal(busy.received.length, 1)
  await clock.advance(1_000) // 02:01
  await waits(2)
  await clock.advance(119_000)
  t.equal(busy.received.length, 2)
  await clock.advance(1_000) // 02:03; what cannot be read means nothing
  await until('wait 3, of no time', () => waitsIn(lines) >= 3)
  await clock.advance(0)
  await waits(4)
  await clock.advance(300_000)
  await until('the fifth, after five minutes at most', () => busy.received.length === 5)
  await notifier.stop()
  t.match(notifier.states(), [{ failures: 0 }])
})

t.test('after an hour it is no news any more', async (t) => {
  const clock = new FakeClock()
  const busy = await receiver(t, (response) => response.writeHead(503, { 'retry-after': '9999' }).end())
  const { notifier, lines } = notify([target(busy.url, { retries: 20, timeoutMs: 300_000 })], clock)
  notifier.runChanged(run('succeeded'))
  for (let waits = 1; waits <= 12; waits += 1) {
    await until(`wait ${waits}`, () => waitsIn(lines) === waits)
    await clock.advance(300_000)
  }
  await until('the end', () => givenUp(lines).length > 0)
  t.equal(busy.received.length, 13)
  await notifier.stop()
})

t.test('files with the URL and the key are read at each use, and may be away while they are replaced', async (t) => {
  const directory = await scratchDirectory(t)
  const { received, url } = await receiver(t, ok)
  const [urlFile, keyFile] = [join(directory, 'url'), join(directory, 'key')]
  const clock = new FakeClock()
  const files = { url: () => readSecretFile(urlFile), secret: () => readSecretFile(keyFile) }
  const { notifier, lines } = notify([{ ...target(url), ...files, retries: 5 }], clock)
  notifier.runChanged(run('running'))
  await until('the first wait', () => waitsIn(lines) === 1)
  t.equal(received.length, 0)
  const put = async (key: string) => {
    await writeFile(urlFile, `${url}/${key}\n`, { mode: 0o600 })
    await writeFile(keyFile, `${key}\n`, { mode: 0o600 })
  }
  await put('old')
  await clock.advance(0)
  await until('the first', () => received.length === 1)
  await put('new')
  notifier.runChanged(run('succeeded'))
  await until('both', () => received.length === 2)
  await notifier.stop()
  for (const [index, key] of ['old', 'new'].entries()) {
    const { path, headers, body } = received[index] as Received
    t.equal(path, `/${key}`)
    const [, at, mac] = /^t=(\d+),v1=(\w+)$/.exec(String(headers['lifeboat-signature'])) ?? []
    t.equal(mac, createHmac('sha256', key).update(`${at}.${body}`).digest('hex'))
  }
  t.same(givenUp(lines), [])
})

t.test('a certificate that nobody vouches for is refused', async (t) => {
  const directory = await scratchDirectory(t)
  const [keyFile, certFile] = [join(directory, 'key'), join(directory, 'cert')]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2']
  await runProgram({
    program: 'openssl',
    args: ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', keyFile, '-out', certFile, ...subject],
  })
  const [key, cert] = [await readFile(keyFile, 'utf8'), await readFile(certFile, 'utf8')]
  const { received, url } = await receiver(t, ok, { key, cert })
  const stranger = notify([target(`${url}/secret-path`, { retries: 0 })])
  stranger.notifier.runChanged(run('succeeded'))
  await stranger.notifier.stop()
  t.equal(received.length, 0)
  t.match(stranger.lines, [{ message: /SELF_SIGNED/ }])
  t.notMatch(JSON.stringify(stranger.lines), 'secret-path')

  const trusted = getCACertificates('default')
  setDefaultCACertificates([...trusted, cert])
  t.teardown(() => setDefaultCACertificates(trusted))
  const known = notify([target(url)])
  known.notifier.runChanged(run('succeeded'))
  await known.notifier.stop()
  t.equal(received.length, 1)
})

t.test('an answer whose body never comes is an answer; a body that comes slowly is not waited for', async (t) => {
  const half = await receiver(t, (response) => response.writeHead(200, { 'content-length': 1_000_000 }).write('x'))
  const { notifier } = notify([target(half.url)])
  const begun = systemClock.monotonic()
  notifier.runChanged(run('succeeded'))
  await notifier.stop()
  t.match(notifier.states(), [{ failures: 0 }])
  t.ok(systemClock.monotonic() - begun < 2_000)
})

t.test('a file that cannot be read to its end does not hold up a stop', async (t) => {
  const { notifier } = notify([target('', { url: () => new Promise(() => {}), timeoutMs: 60_000 })])
  notifier.runChanged(run('succeeded'))
  await notifier.stop()
  t.match(notifier.states(), [{ failures: 1 }])
})
