import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../support/postgres.ts'
import { type Figure, median } from './table.ts'

const rules = new URL('../../alerts/lifeboat.rules.yml', import.meta.url)
const rounds = 12

interface Group {
  readonly name: string
  readonly evaluationTime: number
  readonly lastEvaluation: string
  readonly rules: readonly { readonly health: string; readonly lastError?: string }[]
}

/**
 * What a round of all rules takes in a real Prometheus that scrapes so many clusters, each with what test/golden/metrics.txt
 * has (two repositories, dumps, physical backups, WAL), its moments at the present and its counters going up.
 */
export async function benchRules(base: string, clusters: number): Promise<readonly Figure[]> {
  const golden = await readFile(new URL('../golden/metrics.txt', import.meta.url), 'utf8')
  const shift = Math.floor(Date.now() / 1000) - 1_772_359_200
  let scrapes = 0
  const server = createServer((request, response) => {
    scrapes++
    const cluster = request.url?.slice(1) ?? ''
    const text = golden
      .replaceAll('cluster_name="spavix"', `cluster_name="${cluster}"`)
      .replaceAll(
        /^(lifeboat_\w+_timestamp_seconds\{.*\}) (\d+)$/gm,
        (_, series: string, at: string) => `${series} ${Number(at) + shift}`,
      )
      .replaceAll(
        /^(lifeboat_\w+_total\{.*\}) (\d+)$/gm,
        (_, series: string, at: string) => `${series} ${Number(at) + scrapes}`,
      )
    response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const target = typeof address === 'object' && address !== null ? `127.0.0.1:${address.port}` : ''
  const directory = join(base, 'prometheus')
  await mkdir(directory)
  const port = await freePort()
  const config = {
    global: { scrape_interval: '5s', evaluation_interval: '5s' },
    rule_files: [rules.pathname],
    scrape_configs: Array.from({ length: clusters }, (_, index) => ({
      job_name: `lifeboat-${index}`,
      metrics_path: `/cluster-${index}`,
      static_configs: [{ targets: [target] }],
    })),
  }
  await writeFile(join(directory, 'prometheus.json'), JSON.stringify(config))
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${join(directory, 'prometheus.json')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  try {
    const ask = async (path: string): Promise<unknown> => (await fetch(`http://127.0.0.1:${port}${path}`)).json()
    const seen = new Map<string, Group>()
    const taken = new Map<string, number[]>()
    // Three minutes of samples, then so many rounds.
    const warm = Date.now() + 180_000
    for (;;) {
      await delay(500)
      const answer = await ask('/api/v1/rules').catch(() => null)
      const { groups = [] } = (answer as { data?: { groups: readonly Group[] } } | null)?.data ?? {}
      for (const group of groups) {
        const broken = group.rules.find(({ health }) => health === 'err')
        if (broken !== undefined) throw new Error(`${group.name}: ${broken.lastError ?? ''}`)
        if (Date.now() > warm && seen.get(group.name)?.lastEvaluation !== group.lastEvaluation) {
          taken.set(group.name, [...(taken.get(group.name) ?? []), group.evaluationTime * 1000])
        }
        seen.set(group.name, group)
      }
      if (groups.length > 0 && groups.every(({ name }) => (taken.get(name)?.length ?? 0) > rounds)) break
    }
    const sums = [...taken.values()].map((times) => median(times))
    const all = sums.reduce((sum, one) => sum + one, 0)
    for (const [name, times] of taken) console.log(`${name}: ${median(times).toFixed(1)} ms`)
    const ms = Math.round(all)
    return [
      {
        what: `a round of all ${[...seen.values()].flatMap((group) => group.rules).length} rules for ${clusters} clusters, median of ${rounds}`,
        measured: `${ms} ms`,
        goal: '100 ms',
        met: ms <= 100,
      },
    ]
  } finally {
    prometheus.kill()
    await once(prometheus, 'exit')
    server.close()
    server.closeAllConnections()
  }
}
