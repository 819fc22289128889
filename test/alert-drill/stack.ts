import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { fetch } from 'undici'
import { renderRules } from '../../src/alerts/render.ts'
import { freePort } from '../support/postgres.ts'
import { untilAnswer } from '../support/until.ts'

/** A real Prometheus that scrapes one sidecar and evaluates our rules, as fast as it can. */
export interface ScrapingPrometheus {
  readonly url: string
  /** Takes other rules, or none. */
  rules(text: string): Promise<void>
  /** Sends to others, or to none. */
  alertmanagers(urls: readonly string[]): Promise<void>
}

/** `directory` is there, and belongs to it. */
export async function startScraping(
  t: Test,
  directory: string,
  {
    target,
    alertmanager,
    flags = [],
  }: { readonly target: string; readonly alertmanager: string; readonly flags?: readonly string[] },
): Promise<ScrapingPrometheus> {
  const [config, rules] = [join(directory, 'prometheus.yml'), join(directory, 'lifeboat.rules.yml')]
  await writeFile(rules, renderRules())
  const configure = async (urls: readonly string[]) => {
    const written = {
      // A scrape may take as long as its interval, and this machine may be busy.
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '250ms' },
      rule_files: [rules],
      scrape_configs: [{ job_name: 'lifeboat', static_configs: [{ targets: [new URL(target).host] }] }],
      alerting: { alertmanagers: [{ static_configs: [{ targets: urls.map((one) => new URL(one).host) }] }] },
    }
    await writeFile(config, JSON.stringify(written))
  }
  await configure([alertmanager])
  const url = `http://127.0.0.1:${await freePort()}`
  const child = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=${new URL(url).host}`,
      '--web.enable-lifecycle',
      ...flags,
    ],
    { stdio: 'ignore' },
  )
  stopAfter(t, child)
  await untilAnswer('Prometheus is ready', async () => {
    const response = await fetch(`${url}/-/ready`).catch(() => null)
    await response?.text()
    return response?.ok
  })
  const reload = async () => {
    const response = await fetch(`${url}/-/reload`, { method: 'POST' })
    if (!response.ok) throw new Error(await response.text())
  }
  return {
    url,
    async rules(text) {
      await writeFile(rules, text)
      await reload()
    },
    async alertmanagers(urls) {
      await configure(urls)
      await reload()
    },
  }
}

function stopAfter(t: Test, child: ChildProcess): void {
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  t.teardown(async () => {
    process.off('exit', kill)
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : null
    kill()
    await ended
  })
}

/** Between Alertmanager's webhook and the sidecar: what it gets it hands on, as long as it may. */
export async function startRelay(t: Test, to: string) {
  const relay = { url: '', isOpen: true, handedOn: 0, heldBack: 0 }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (!relay.isOpen) {
        relay.heldBack += 1
        response.end()
        return
      }
      relay.handedOn += 1
      void fetch(`${to}${request.url}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: request.headers.authorization ?? '' },
        body: Buffer.concat(chunks),
      }).then(
        (answer) => response.writeHead(answer.status).end(),
        () => response.writeHead(502).end(),
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  relay.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return relay
}

/** A server that answers every request with one status, or never. */
export async function startStubborn(t: Test, status: number | null) {
  const server = createServer((request, response) => {
    request.resume()
    if (status !== null) response.writeHead(status).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
