import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  readonly connections: number
  readonly connectionsPerAddress: number
}

interface Connection {
  readonly address: string
  /** Requests that wait for their answer. */
  busy: number
}

/**
 * Keeps room for new clients. When there are as many connections as there may be, of one address or in all, the one that
 * has been idle the longest goes: of that address, or of the address that has the most. Only when all of those are at
 * work is the new one refused. So nobody shuts out others by holding connections open; and since all who come through
 * one proxy have one address, an address may have more connections than there may be event streams.
 *
 * Not `server.maxConnections`, which refuses whoever comes last.
 */
export function limitConnections(server: Server, limits: ConnectionLimits): void {
  // In the order in which they became idle, the longest idle first.
  const connections = new Map<Socket, Connection>()

  /** Cuts the longest idle connection of an address; false when all of them are at work. */
  function cutIdle(address: string): boolean {
    for (const [socket, connection] of connections) {
      if (connection.address !== address || connection.busy > 0) continue
      connections.delete(socket)
      socket.destroy()
      return true
    }
    return false
  }

  function makeRoom(address: string): boolean {
    const counts = new Map<string, number>()
    for (const connection of connections.values()) {
      counts.set(connection.address, (counts.get(connection.address) ?? 0) + 1)
    }
    if ((counts.get(address) ?? 0) >= limits.connectionsPerAddress) return cutIdle(address)
    if (connections.size < limits.connections) return true
    const greediest = [...counts].toSorted(([, a], [, b]) => b - a)
    return greediest.some(([other]) => cutIdle(other))
  }

  server.on('connection', (socket) => {
    const address = networkOf(socket.remoteAddress ?? '')
    if (!makeRoom(address)) {
      socket.destroy()
      return
    }
    connections.set(socket, { address, busy: 0 })
    socket.once('close', () => connections.delete(socket))
  })
  server.on('request', ({ socket }, response: ServerResponse) => {
    const connection = connections.get(socket)
    if (connection === undefined) return
    connection.busy += 1
    response.once('close', () => {
      connection.busy -= 1
      // Put last: it has been idle for the shortest time. One that was cut meanwhile stays away.
      if (connections.delete(socket)) connections.set(socket, connection)
    })
  })
}

/**
 * Who counts as one client: an IPv4 address, or the /64 of an IPv6 address, within which a single machine has as many
 * addresses as it likes (RFC 4291, section 2.5.1).
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  if (!address.includes(':')) return address
  const [before = '', after] = address.replace(/%.*$/, '').split('::')
  const head = before === '' ? [] : before.split(':')
  const tail = after === undefined || after === '' ? [] : after.split(':')
  const zeros = after === undefined ? 0 : Math.max(0, 8 - head.length - tail.length)
  const groups = [...head, ...Array<string>(zeros).fill('0'), ...tail]
  const network = groups.slice(0, 4)
  // Loopback and the unspecified address are not part of anybody's network.
  return network.every((group) => group === '0') ? address : `${network.join(':')}::/64`
}
