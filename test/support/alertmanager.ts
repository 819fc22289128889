import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fetch } from 'undici'
import { untilAnswer } from './until.ts'

/** A real Alertmanager, alone (no cluster), on a port of 127.0.0.1 that was free. */
export interface Alertmanager {
  readonly url: string
  /** What it has said so far, lines of logfmt. */
  readonly log: readonly string[]
  stop(): Promise<void>
}

/**
 * Starts one on a configuration file, and resolves when it is ready. `directory` is for its data, and is there.
 * Rejects with what it said when it does not like the configuration.
 */
export async function startAlertmanager(directory: string, configFile: string): Promise<Alertmanager> {
  const child = spawn(
    'prometheus-alertmanager',
    [
      `--config.file=${configFile}`,
      `--storage.path=${join(directory, 'alertmanager')}`,
      '--web.listen-address=127.0.0.1:0',
      '--cluster.listen-address=',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const kill = () => child.kill()
  process.once('exit', kill)
  const log: string[] = []
  const url = await listening(child, log)
  await untilAnswer('Alertmanager is ready', async () => {
    const response = await fetch(`${url}/-/ready`)
    await response.text()
    return response.ok
  })
  return {
    url,
    log,
    stop: async () => {
      process.off('exit', kill)
      const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : null
      kill()
      await ended
    },
  }
}

function listening(child: ChildProcess, log: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    if (child.stderr === null) return reject(new Error('no log of Alertmanager'))
    const lines = createInterface({ input: child.stderr })
    lines.on('line', (line) => {
      log.push(line)
      const address = /msg="Listening on" address=(\S+)/.exec(line)?.[1]
      if (address !== undefined) resolve(`http://${address}`)
    })
    lines.on('close', () => reject(new Error(`Alertmanager ended: ${log.join('\n')}`)))
  })
}

/** What `amtool` prints; rejects with what it complains of. */
export function amtool(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('amtool', args, (error, out, err) => {
      if (error === null) resolve(out)
      else reject(new Error(`amtool ${args.join(' ')}: ${out}${err}`, { cause: error }))
    })
  })
}

/** An alert as a webhook gets it. */
export interface NotifiedAlert {
  readonly status: 'firing' | 'resolved'
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly startsAt: string
  readonly endsAt: string
  readonly generatorURL: string
  readonly fingerprint: string
}

/** A message of Alertmanager to a webhook (version 4). */
export interface Notification {
  readonly version: string
  readonly status: 'firing' | 'resolved'
  readonly receiver: string
  readonly groupKey: string
  readonly groupLabels: Readonly<Record<string, string>>
  readonly commonLabels: Readonly<Record<string, string>>
  readonly alerts: readonly NotifiedAlert[]
}

export interface Received {
  /** The path it was sent to: a configuration can tell its receivers apart by it. */
  readonly path: string
  /** When it was there whole, `performance.now()`, milliseconds. */
  readonly at: number
  readonly notification: Notification
}

/** What Alertmanager's webhooks are sent to: it keeps every message. */
export interface WebhookReceiver {
  /** Of 127.0.0.1, without a slash at the end; every path below it is answered. */
  readonly url: string
  readonly received: readonly Received[]
  /** The first message of which this is true, past ones included. Rejects after `withinMs`, with what came. */
  until(what: string, isIt: (one: Received) => boolean, withinMs?: number): Promise<Received>
  stop(): Promise<void>
}

export async function startWebhookReceiver(): Promise<WebhookReceiver> {
  const received: Received[] = []
  const waiting = new Set<(one: Received) => void>()
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const notification = JSON.parse(Buffer.concat(chunks).toString()) as Notification
      const one = { path: request.url ?? '/', at: performance.now(), notification }
      received.push(one)
      response.end()
      for (const tell of [...waiting]) tell(one)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    until: (what, isIt, withinMs = 60_000) =>
      new Promise((resolve, reject) => {
        const there = received.find(isIt)
        if (there !== undefined) return resolve(there)
        // Ticks, and not a moment: a machine that stood still in between has sent nothing either.
        let left = Math.ceil(withinMs / 1000)
        const tell = (one: Received) => {
          if (!isIt(one)) return
          waiting.delete(tell)
          clearInterval(timer)
          resolve(one)
        }
        const timer = setInterval(() => {
          if (left-- > 0) return
          waiting.delete(tell)
          clearInterval(timer)
          reject(new Error(`${what}: not within ${withinMs} ms. What came:\n${received.map(inShort).join('\n')}`))
        }, 1000)
        waiting.add(tell)
      }),
    stop: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function inShort({ path, notification }: Received): string {
  const alerts = notification.alerts.map(({ status, labels }) => `${status} ${JSON.stringify(labels)}`)
  return `${path}: ${alerts.join(', ')}`
}
