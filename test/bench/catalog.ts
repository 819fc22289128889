import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { storeBackup, storedCluster } from '../support/stored.ts'
import { startSidecar } from './sidecar.ts'
import { type Figure, mebibytes, median, percentile } from './table.ts'

const port = 21_188
const scrapes = 2_000
const starts = 3

/** A sidecar over many backups: start, scrape, number of series, memory. The server is unreachable on purpose. */
export async function benchCatalog(base: string, count: number): Promise<readonly Figure[]> {
  const few = await observe(base, 10, 1)
  const many = await observe(base, count, starts)
  const p99 = percentile(many.scrapeMs, 0.99)
  const backups = count.toLocaleString('en')
  return [
    {
      what: `/metrics with ${backups} backups, p99 of ${scrapes}`,
      measured: `${p99.toFixed(1)} ms (median ${median(many.scrapeMs).toFixed(1)})`,
      goal: '10 ms',
      met: p99 <= 10,
    },
    {
      what: `series with 10 and with ${backups} backups`,
      measured: `${few.series} and ${many.series}`,
      goal: 'equal',
      met: few.series === many.series,
    },
    {
      what: `start to first complete scrape, ${backups} manifests, worst of ${starts}`,
      measured: `${Math.max(...many.startSeconds).toFixed(2)} s`,
      goal: '2 s',
      met: Math.max(...many.startSeconds) <= 2,
    },
    {
      what: `most resident memory, ${backups} backups, after ${scrapes} scrapes`,
      measured: mebibytes(many.peak),
      goal: '150 MiB',
      met: many.peak <= 150 * 1_048_576,
    },
  ]
}

async function observe(base: string, count: number, times: number) {
  const directory = await mkdtemp(join(base, 'catalog-'))
  try {
    const root = join(directory, 'repository')
    await mkdir(root)
    for (let index = 0; index < count; index += 1) {
      await storeBackup(root, {
        bytes: 10,
        startedAt: new Date(Date.UTC(2026, 0, 1) + index * 1_800_000),
        database: `app${index % 5}`,
        random: index.toString(16).padStart(6, '0'),
      })
    }
    const config = JSON.stringify({
      cluster: storedCluster,
      listen: `127.0.0.1:${port}`,
      stateDir: join(directory, 'state'),
      postgres: { host: join(directory, 'nowhere') },
      repositories: [{ name: 'local', url: `file://${root}` }],
    })
    const startSeconds: number[] = []
    for (let time = 1; time < times; time += 1) {
      const sidecar = await startSidecar(directory, config, port)
      startSeconds.push(sidecar.startSeconds)
      await sidecar.stop()
    }
    const sidecar = await startSidecar(directory, config, port)
    try {
      startSeconds.push(sidecar.startSeconds)
      const scrapeMs: number[] = []
      let text = ''
      for (let index = 0; index < scrapes; index += 1) {
        const started = performance.now()
        text = await (await fetch(`${sidecar.url}/metrics`)).text()
        scrapeMs.push(performance.now() - started)
      }
      const series = text.split('\n').filter((line) => line.startsWith('lifeboat_') && !line.includes('app')).length
      return { startSeconds, scrapeMs, series, peak: await sidecar.peakBytes() }
    } finally {
      await sidecar.stop()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
