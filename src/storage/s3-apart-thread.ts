import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parentPort, workerData } from 'node:worker_threads'
import type { FromThread, Network, SignedRequest, ToThread } from './s3-apart-messages.ts'

/** What is handed over at a time: a message costs as much as reading some kilobytes. */
const pieceBytes = 512 * 1024

/**
 * What Node receives is garbage once it is copied. By itself V8 searches all of the heap at every 32 MB of that: to look among what is young
 * takes a tenth of the time (docs/decisions/0040-downloads.md).
 */
const collectEveryBytes = 16 * 1024 * 1024
setFlagsFromString('--expose-gc')
const collect: NodeJS.GCFunction | undefined = runInNewContext('globalThis.gc')
let uncollected = 0

const { ca, proxies, mostSockets, connectMs, idleMs } = workerData as Network
const common = { keepAlive: true, maxSockets: mostSockets, proxyEnv: proxies }
const plain = new HttpAgent(common)
const secure = new HttpsAgent({ ...common, ...(ca === null ? {} : { ca: [...ca] }) })

/** By the id of the request. */
const running = new Map<number, ClientRequest>()
/** Given back, to be filled again. */
const free: SharedArrayBuffer[] = []

function tell(told: FromThread): void {
  parentPort?.postMessage(told)
}

function send(id: number, { protocol, mostBytes, ...options }: SignedRequest): void {
  const isSecure = protocol === 'https:'
  const request = (isSecure ? requestHttps : requestHttp)({ ...options, agent: isSecure ? secure : plain })
  running.set(id, request)
  request.once('socket', (socket) => watch(request, socket))
  request.once('response', (response) => receive(id, response, mostBytes))
  // Stays: after the first failure of a socket another one may follow.
  request.on('error', (error) => end(id, error))
  request.end()
}

/** Gives up a connection on which nothing moves. */
function watch(request: ClientRequest, socket: Socket): void {
  const connected = (): void => void socket.setTimeout(idleMs)
  const late = (): void => {
    request.destroy(Object.assign(new Error('nothing moves on the connection'), { name: 'TimeoutError' }))
  }
  socket.setTimeout(socket.connecting ? connectMs : idleMs)
  if (socket.connecting) socket.once('connect', connected)
  socket.on('timeout', late)
  // The connection serves others after this request.
  request.once('close', () => {
    socket.removeListener('timeout', late)
    socket.removeListener('connect', connected)
  })
}

/** Copies what comes into lent memory, a piece after the other. */
function receive(id: number, response: IncomingMessage, mostBytes: number): void {
  const headers = Object.entries(response.headers).map(([name, value]) => [name, String(value)])
  const { statusCode = 0, statusMessage: reason = '' } = response
  tell({ id, head: { statusCode, reason, headers: Object.fromEntries(headers) } })
  let memory: SharedArrayBuffer | null = null
  let [filled, given] = [0, 0]
  const give = (): void => {
    if (memory === null) return
    // Nobody holds up what comes. More than was asked for is seen to be that by the first of it.
    given += filled
    if (given > mostBytes) response.pause()
    tell({ id, memory, bytes: filled })
    memory = null
    uncollected += filled
    filled = 0
    if (uncollected < collectEveryBytes) return
    uncollected = 0
    collect?.({ type: 'minor' })
  }
  response.on('data', (chunk: Buffer) => {
    for (let from = 0; from < chunk.length; ) {
      memory ??= free.pop() ?? new SharedArrayBuffer(pieceBytes)
      const part = chunk.subarray(from, from + pieceBytes - filled)
      new Uint8Array(memory).set(part, filled)
      from += part.length
      filled += part.length
      if (filled === pieceBytes) give()
    }
  })
  const over = (error: Error | null): void => {
    give()
    end(id, error)
  }
  response.once('end', () => over(null))
  response.on('error', over)
}

function end(id: number, error: Error | null): void {
  if (!running.delete(id)) return
  const code = error !== null && 'code' in error ? String(error.code) : null
  tell({ id, trouble: error === null ? null : { name: error.name, message: error.message, code } })
}

parentPort?.on('message', (told: ToThread) => {
  if ('free' in told) free.push(told.free)
  else if (told.request !== null) send(told.id, told.request)
  else {
    const stopped = running.get(told.id)
    running.delete(told.id)
    stopped?.destroy()
  }
})
