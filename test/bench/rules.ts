import { once } from 'node:events'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type RuleGroup, ruleGroups } from '../../src/alerts/render.ts'
import { secondsOf } from '../alerts/seconds.ts'
import { type Prometheus, startConfigured } from '../support/prometheus.ts'
import { untilAnswer } from '../support/until.ts'
import { remember } from './rules-history.ts'
import { servingOf } from './rules-served.ts'
import { type Figure, median } from './table.ts'

const rounds = 12
/** Between evaluations here, of all groups: nobody waits for those that are seldom. */
const often = '5s'
/** Between those of a group that says nothing else, as many have it, seconds. */
const usual = 30
/** Blocks are merged a minute after the start, as they are in one that has run for long. */
const settled = 75_000

interface Evaluated {
  readonly name: string
  readonly evaluationTime: number
  readonly lastEvaluation: string
  readonly rules: readonly { readonly health: string; readonly lastError?: string; readonly evaluationTime: number }[]
}

/**
 * What a round of all rules takes in a real Prometheus that scrapes so many clusters, each with what test/golden/metrics.txt
 * has (two repositories, dumps, WAL, a bucket, a watched directory), is well, and has been for as long as any rule looks back.
 * A group that is evaluated every other minute counts by the quarter that a round of half a minute has of it.
 */
export async function benchRules(base: string, clusters: number): Promise<readonly Figure[]> {
  const golden = await readFile(new URL('../golden/metrics.txt', import.meta.url), 'utf8')
  const serve = servingOf(golden)
  const server = createServer((request, response) => {
    const text = serve(request.url?.slice(1) ?? '', Math.floor(Date.now() / 1000))
    response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const target = typeof address === 'object' && address !== null ? `127.0.0.1:${address.port}` : ''
  const groups = ruleGroups()
  const rules = join(base, 'rules.json')
  await writeFile(rules, JSON.stringify({ groups: groups.map((group) => ({ ...group, interval: often })) }))
  const configured = {
    global: { scrape_interval: '15s', evaluation_interval: often },
    rule_files: [rules],
    scrape_configs: Array.from({ length: clusters }, (_, index) => ({
      job_name: `lifeboat-${index}`,
      metrics_path: `/cluster-${index}`,
      static_configs: [{ targets: [target] }],
    })),
  }
  const start = async (name: string, history: string | null) => {
    const home = join(base, name)
    await mkdir(home)
    if (history !== null) await rename(history, join(home, 'data'))
    return startConfigured(home, configured)
  }
  try {
    const first = await start('first', null)
    const { data, samples } = await during(first, () => remembered(first, clusters, join(base, 'history'), groups))
    const prometheus = await start('prometheus', data)
    const taken = await during(prometheus, () => measured(prometheus))
    const sum = (of: (times: readonly number[]) => number) =>
      Math.round(
        groups.reduce((all, { name, interval }) => {
          const share = interval === undefined ? 1 : usual / secondsOf(interval)
          return all + of(taken.get(name) ?? []) * share
        }, 0),
      )
    const [typical, best] = [sum(median), sum((times) => Math.min(...times))]
    const count = groups.flatMap((group) => group.rules).length
    return [
      {
        what: `a round of all ${count} rules for ${clusters} clusters that are well, with a history of ${(samples / 1e6).toFixed(1)} million samples, best of ${rounds} (median ${typical} ms)`,
        measured: `${best} ms`,
        goal: '100 ms',
        met: best <= 100,
      },
    ]
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

async function during<T>(prometheus: Prometheus, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } finally {
    await prometheus.stop()
  }
}

/** Makes the history, of the series that there are when all are scraped and all groups were evaluated. */
async function remembered(prometheus: Prometheus, clusters: number, directory: string, groups: readonly RuleGroup[]) {
  const count = async () => {
    const now = Date.now() / 1000
    if ((await prometheus.instant('up == 1', now)).length < clusters) return false
    const [found] = await prometheus.instant('count({__name__=~"cluster.*:.*"})', now)
    return found?.points[0]?.[1] ?? false
  }
  let before: number | false = false
  await untilAnswer('nothing new comes', async () => {
    await delay(11_000)
    const now = await count()
    const isSame = now !== false && now === before
    before = now
    return isSame
  })
  return remember(directory, groups, prometheus)
}

/** Milliseconds of each evaluation of each group. */
async function measured({ url }: Prometheus): Promise<ReadonlyMap<string, readonly number[]>> {
  const seen = new Map<string, string>()
  const taken = new Map<string, number[]>()
  await delay(settled)
  for (;;) {
    await delay(500)
    const answer = (await (await fetch(`${url}/api/v1/rules`)).json()) as {
      readonly data: { readonly groups: readonly Evaluated[] }
    }
    for (const { name, lastEvaluation, evaluationTime, rules } of answer.data.groups) {
      const broken = rules.find(({ health }) => health === 'err')
      if (broken !== undefined) throw new Error(`${name}: ${broken.lastError ?? ''}`)
      if (seen.has(name) && seen.get(name) !== lastEvaluation) {
        taken.set(name, [...(taken.get(name) ?? []), evaluationTime * 1000])
      }
      seen.set(name, lastEvaluation)
    }
    if ([...seen.keys()].every((name) => (taken.get(name)?.length ?? 0) >= rounds)) return taken
  }
}
