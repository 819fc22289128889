import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** What befalls a connection. Each is used up by one connection, in the order in which they were asked for. */
export type Trouble =
  /** Cut when so many bytes have gone to the server; the last of them do not arrive. */
  | { readonly what: 'cut-request'; readonly after: number }
  /** Cut when so many bytes have come from the server. */
  | { readonly what: 'cut-answer'; readonly after: number }
  /** One bit of the request is flipped, so many bytes after its start. */
  | { readonly what: 'flip'; readonly at: number }
  /** Accepted, and never answered. */
  | { readonly what: 'mute' }

export interface TcpProxy {
  readonly port: number
  /** For the next requests; those of other connections pass. `when` chooses the first bytes of a request, e.g. /^PUT /. */
  trouble(trouble: Trouble, when: RegExp, times?: number): void
  /** How many are left that have not happened. */
  readonly left: number
  /** From now on every connection is accepted and never answered, also those that are open; until it is set back. */
  hangs: boolean
  /** Connections, both halves counted. */
  readonly open: number
  /** Cuts every connection that is open. */
  cutAll(): void
}

/** Passes every connection on to a port of 127.0.0.1, with the trouble that a test asks for. */
export async function startTcpProxy(t: Test, port: number): Promise<TcpProxy> {
  const open = new Set<Socket>()
  const troubles: { readonly trouble: Trouble; readonly when: RegExp }[] = []
  let hangs = false
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    for (const socket of [client, upstream]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    let trouble: Trouble | undefined
    let sent = 0
    let answered = 0
    client.on('data', (chunk) => {
      const head = chunk.subarray(0, 2000).toString('latin1')
      // A connection is used for one request after another.
      if (/^(?:DELETE|GET|HEAD|POST|PUT) \//.test(head)) {
        const index = troubles.findIndex(({ when }) => when.test(head))
        trouble = index < 0 ? undefined : troubles.splice(index, 1)[0]?.trouble
        sent = 0
        answered = 0
      }
      sent += chunk.length
      if (hangs || trouble?.what === 'mute') return
      if (trouble?.what === 'cut-request' && sent > trouble.after) return void client.destroy()
      if (trouble?.what === 'flip' && trouble.at < sent && trouble.at >= sent - chunk.length) {
        const place = trouble.at - (sent - chunk.length)
        chunk[place] = (chunk[place] ?? 0) ^ 1
      }
      if (!upstream.write(chunk)) {
        client.pause()
        upstream.once('drain', () => client.resume())
      }
    })
    upstream.on('data', (chunk) => {
      if (hangs) return
      answered += chunk.length
      if (trouble?.what === 'cut-answer' && answered > trouble.after) return void client.destroy()
      if (!client.write(chunk)) {
        upstream.pause()
        client.once('drain', () => upstream.resume())
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cutAll = (): void => {
    for (const socket of open) socket.destroy()
  }
  t.teardown(() => {
    cutAll()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    trouble: (trouble, when, times = 1) => {
      for (let time = 0; time < times; time += 1) troubles.push({ trouble, when })
    },
    get left() {
      return troubles.length
    },
    get open() {
      return open.size
    },
    get hangs() {
      return hangs
    },
    set hangs(wanted) {
      hangs = wanted
      // What was swallowed is never answered.
      if (!wanted) cutAll()
    },
    cutAll,
  }
}
