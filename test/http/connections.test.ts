import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { limitConnections, networkOf } from '../../src/http/connections.ts'
import { startHttp } from './harness.ts'

/** Everything that the server sends until it closes the connection, or resets it. */
async function rest(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk) => {
    text += String(chunk)
  })
  if (!socket.closed) await once(socket, 'close').catch(() => undefined)
  return text
}

const request = 'GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n'

/** Dials from an address of the loopback network, 127.0.0.1 to 127.255.255.254 (RFC 1122, 3.2.1.3). */
async function dial(t: Test, server: Server, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', localAddress })
  socket.on('error', () => undefined)
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

async function answered(socket: Socket): Promise<string> {
  socket.write(request)
  const [chunk] = await once(socket, 'data')
  return String(chunk)
}

await t.test('who holds many connections open shuts nobody out', async (t) => {
  const { app } = await startHttp(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const greedy: Socket[] = []
  for (let index = 0; index < 300; index++) greedy.push(await dial(t, app.server))
  t.match(await answered(await dial(t, app.server)), /^HTTP\/1\.1 200 /, 'not even others of the same address')
  t.match(await answered(await dial(t, app.server, '127.0.0.2')), /^HTTP\/1\.1 200 /)
  // Kept alive by a request now and then, they are as idle in between.
  const last = greedy.slice(-90)
  for (const socket of last) t.match(await answered(socket), /200/)
  t.match(await answered(await dial(t, app.server)), /^HTTP\/1\.1 200 /)
})

await t.test('of 256 connections from many addresses, those of the greediest go', async (t) => {
  const { app } = await startHttp(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const patient = await dial(t, app.server, '127.0.1.1')
  t.match(await answered(patient), /200/)
  const crowd: Socket[] = []
  for (const host of ['127.0.0.2', '127.0.0.3', '127.0.0.4'])
    for (let index = 0; index < 96; index++) crowd.push(await dial(t, app.server, host))
  t.match(await answered(await dial(t, app.server, '127.0.1.2')), /200/)
  t.match(await answered(patient), /200/, 'the one that is alone keeps its connection')
  const open = await new Promise<number>((resolve) => app.server.getConnections((_, count) => resolve(count)))
  t.ok(open <= 256, `${open} connections`)
})

await t.test('the longest idle goes first, one at work never', async (t) => {
  const pending: (() => void)[] = []
  const server = createServer((_, response) => void pending.push(() => response.end('done')))
  limitConnections(server, { connections: 3, connectionsPerAddress: 2 })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.closeAllConnections())
  t.teardown(() => server.close())
  const begun = async (socket: Socket) => {
    const seen = once(server, 'request')
    socket.write(request)
    await seen
  }
  const one = await dial(t, server)
  await begun(one)
  const two = await dial(t, server)
  await begun(two)
  t.equal(await rest(await dial(t, server)), '', 'both at work: the third of this address is refused')
  const answer = once(one, 'data')
  pending.shift()?.()
  t.match(String((await answer)[0]), /done/)
  const three = await dial(t, server)
  t.equal(await rest(one), '', 'the idle one made room')
  await begun(three)
  await begun(await dial(t, server, '127.0.0.2'))
  t.equal(await rest(await dial(t, server, '127.0.0.3')), '', 'three at work: nobody else')
  t.notOk(two.closed)
})

await t.test('after so many requests a client has to connect again', async (t) => {
  const { app } = await startHttp(t, {}, { requestsPerConnection: 2 })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = await dial(t, app.server)
  t.match(await answered(socket), /connection: keep-alive/i)
  t.match(await answered(socket), /connection: close/i)
  // Node.js leaves it to the client to close, and for one that does not the keep-alive ends it: a minute of waiting here.
  t.match(await answered(socket), /^HTTP\/1\.1 503 /)
})

await t.test('who counts as one client', async (t) => {
  const cases: [string, string][] = [
    ['127.0.0.1', '127.0.0.1'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '::1'],
    ['', ''],
  ]
  for (const [address, network] of cases) t.equal(networkOf(address), network, address)
})
