import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensurePackages, onPath } from '../../src/demo/packages.ts'
import { stored } from '../grafana/stored.ts'
import { type Prometheus, startConfigured } from '../support/prometheus.ts'
import { photograph } from './chromium.ts'
import { type FiredAlert, writeHistory } from './history.ts'
import { pageOf } from './page.ts'
import { day, type Story } from './past.ts'
import { failed, failedAlerts, healthy, now, watchdog } from './stories.ts'

/**
 * Draws the committed dashboards into docs/images: `npm run previews`, or `npm run previews -- wal` for those whose name has
 * that in it.
 */
const images = new URL('../../docs/images/', import.meta.url)
const [wide, phone] = [1_280, 412]

interface Picture {
  readonly name: string
  readonly uid: string
  readonly clusters: string
  readonly width: number
}

const of = (name: string, clusters: string, width = wide, suffix = ''): Picture => ({
  ...{ name: `dashboard-${name}${suffix}`, uid: `lifeboat-${name}`, clusters, width },
})

interface Shooting {
  readonly stories: readonly Story[]
  readonly alerts: readonly FiredAlert[]
  readonly pictures: readonly Picture[]
}

const shootings: readonly Shooting[] = [
  {
    stories: healthy,
    alerts: [watchdog],
    pictures: [of('overview', '.*'), ...['backups', 'wal', 'verification', 'sidecar'].map((name) => of(name, 'shop'))],
  },
  {
    stories: failed,
    alerts: failedAlerts,
    pictures: [of('overview', '.*', wide, '-failed'), of('overview', '.*', phone, '-phone')],
  },
]

/** Long ago a scrape in a while is enough; the last day has one a minute. */
const spans = [
  { from: now - 32 * day, to: now - day, step: 1_200 },
  { from: now - day, to: now + 1, step: 60 },
]

await ensurePackages(
  [
    { package: 'chromium', present: () => onPath('chromium') },
    { package: 'prometheus', present: () => onPath('promtool') },
    { package: 'pngquant', present: () => onPath('pngquant') },
    {
      package: 'fonts-inter',
      present: async () => (await stat('/usr/share/fonts/opentype/inter').catch(() => null)) !== null,
    },
  ],
  process.stdout,
)
const wanted = process.argv[2] ?? ''
const base = await mkdtemp(join(tmpdir(), 'lifeboat-previews-'))
try {
  for (const { stories, alerts, pictures } of shootings) {
    const chosen = pictures.filter(({ name }) => name.includes(wanted))
    if (chosen.length === 0) continue
    const directory = await mkdtemp(join(base, 'prometheus-'))
    await mkdir(join(directory, 'data'))
    await writeHistory(join(directory, 'data'), stories, spans, alerts)
    const prometheus: Prometheus = await startConfigured(directory, {}, ['--query.lookback-delta=25m'])
    try {
      for (const { name, uid, clusters, width } of chosen) {
        const dashboard = stored.find((one) => one.uid === uid)
        if (dashboard === undefined) throw new Error(`no dashboard is called ${uid}`)
        const page = await pageOf(prometheus, { dashboard, clusters, now, width, scrapeInterval: 60 })
        const file = new URL(`${name}.png`, images).pathname
        await photograph(page, file)
        console.log(`${file}: ${page.width} × ${page.height}, ${Math.round((await stat(file)).size / 1_000)} kB`)
      }
    } finally {
      await prometheus.stop()
    }
  }
} finally {
  await rm(base, { recursive: true, force: true })
}
