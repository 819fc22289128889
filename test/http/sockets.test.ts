import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { HttpLimits } from '../../src/http/ports.ts'
import { type Harness, secrets, startHttp, tokens } from './harness.ts'

const authorized = `host: x\r\nauthorization: Bearer ${secrets.admin}\r\ncontent-type: application/json\r\n`

/** A listening server with short limits, and a way to speak to it byte by byte. */
async function listen(t: Test, limits: Partial<HttpLimits>) {
  const harness: Harness = await startHttp(t, { tokens }, { checkInterval: 20, ...limits })
  await harness.app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = harness.app.server.address() as AddressInfo
  const dial = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    t.teardown(() => socket.destroy())
    return socket
  }
  return { ...harness, dial }
}

/** Everything that the server sends until it closes the connection. */
async function rest(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

function parse(text: string) {
  const [head = '', body = ''] = text.split('\r\n\r\n')
  return { head, problem: JSON.parse(body) as Record<string, unknown> }
}

await t.test('a header that trickles in is cut off', async (t) => {
  const { dial } = await listen(t, { headersTimeout: 100 })
  const socket = await dial()
  socket.write('GET /metrics HTTP/1.1\r\nhost: x\r\nx-slow: ')
  const { head, problem } = parse(await rest(socket))
  t.match(head, /^HTTP\/1\.1 408 /)
  t.match(head, /content-type: application\/problem\+json/)
  t.match(problem, { code: 'request-timeout', status: 408 })
})

await t.test('a body that trickles in is cut off', async (t) => {
  const { dial, runner } = await listen(t, { headersTimeout: 100, requestTimeout: 150 })
  const socket = await dial()
  socket.write(`POST /api/admin/backup HTTP/1.1\r\n${authorized}content-length: 100\r\n\r\n{`)
  t.match(await rest(socket), /^HTTP\/1\.1 408 /)
  t.same(runner.list(), [])
})

await t.test('a silent connection is cut off', async (t) => {
  const { dial } = await listen(t, { idleTimeout: 100 })
  t.equal(await rest(await dial()), '')
})

await t.test('what is not HTTP gets a problem too', async (t) => {
  const { dial } = await listen(t, {})
  const cases: [text: string, status: number, code: string][] = [
    ['\u0016\u0003\u0001 this is TLS\r\n\r\n', 400, 'usage-invalid'],
    ['GET /metrics HTTP/1.1\r\n\r\n', 400, 'usage-invalid'],
    ['GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n', 400, 'usage-invalid'],
    [`GET / HTTP/1.1\r\nhost: x\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`, 431, 'header-too-large'],
  ]
  for (const [text, status, code] of cases) {
    const socket = await dial()
    socket.write(text)
    const answer = await rest(socket)
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(text.slice(0, 40)))
    if (answer.includes('problem+json')) t.match(parse(answer).problem, { code })
  }
})

await t.test('a path is taken as it is written, never normalised', async (t) => {
  const { dial } = await listen(t, {})
  for (const path of ['/api/backups/../../metrics', '/api/backups/..', '/api/runs/%2e%2e/events', '/./metrics']) {
    const socket = await dial()
    socket.write(`GET ${path} HTTP/1.1\r\n${authorized}connection: close\r\n\r\n`)
    t.match(await rest(socket), /^HTTP\/1\.1 40[04] /, path)
  }
})

await t.test('a body that is larger than it may be is not received', async (t) => {
  const { dial, runner } = await listen(t, { bodyBytes: 100 })
  for (const length of ['content-length: 5000', 'transfer-encoding: chunked']) {
    const socket = await dial()
    // It is still sent to while the server has closed already.
    socket.on('error', () => undefined)
    socket.write(`POST /api/admin/backup HTTP/1.1\r\n${authorized}${length}\r\n\r\n`)
    if (length.startsWith('transfer')) socket.write(`fff\r\n${'x'.repeat(0xfff)}\r\n`)
    const { head, problem } = parse(await rest(socket))
    t.match(head, /^HTTP\/1\.1 413 [\s\S]*connection: close/i, length)
    t.match(problem, { code: 'body-too-large' })
  }
  t.same(runner.list(), [])
})

await t.test('the body of a request that is refused anyway is not waited for', async (t) => {
  const { dial } = await listen(t, {})
  const requests: [line: string, status: number][] = [
    ['POST /api/admin/backup', 401],
    ['POST /metrics', 405],
    ['POST /nowhere', 404],
  ]
  for (const [line, status] of requests) {
    const socket = await dial()
    socket.write(`${line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n`)
    t.match(await rest(socket), new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*connection: close`, 'i'), line)
  }
})

await t.test('a repository that hangs does not hang its reader', async (t) => {
  const aborted = Promise.withResolvers<void>()
  const { call } = await startHttp(
    t,
    {
      backupDetails: (_id, _repository, signal) => {
        signal.addEventListener('abort', () => aborted.resolve())
        return new Promise(() => {})
      },
    },
    { repositoryTimeout: 50 },
  )
  const answer = await call({ url: '/api/backups/20260301T000000Z-dump-aaaaaa' })
  t.match([answer.status, answer.json().code, answer.headers['retry-after']], [503, 'too-busy', '5'])
  await aborted.promise
})
