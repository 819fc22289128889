import t from 'tap'
import { type Prometheus, type Series, startPrometheus } from '../support/prometheus.ts'
import { now, openMetrics } from './scenarios.ts'
import { interpolated, latest, type Shown, settingsOf, shown } from './shown.ts'
import { type Question, questions, stored } from './stored.ts'

const prometheus: Prometheus = await startPrometheus(t.testdir({}), await openMetrics())
t.teardown(() => prometheus.stop())

const answers = new Map<string, Promise<Series[]>>()

/** What a panel asks of a cluster, as Grafana asks it. */
function ask({ target }: Question, cluster: string): Promise<Series[]> {
  const query = interpolated(target.expr, cluster)
  const isInstant = target.instant === true
  const key = `${isInstant} ${query}`
  const known = answers.get(key)
  if (known !== undefined) return known
  const asked = isInstant ? prometheus.instant(query, now) : prometheus.range(query, now - 1_800, now, 60)
  answers.set(key, asked)
  return asked
}

const written = ({ text, color }: Shown): string => (text === null ? color : `${text} (${color})`)

/** Colours and words of what is judged, by panel. Where a whole panel has nothing, its word for that. */
async function picture(cluster: string): Promise<Record<string, string[]>> {
  const seen: Record<string, Set<string>> = {}
  const absent: Record<string, string> = {}
  for (const question of questions.filter(({ panel }) => panel.type !== 'timeseries')) {
    const { panel, target, name } = question
    const settings = settingsOf(panel, target.refId)
    const colours = new Set(settings.thresholds?.steps.map(({ color }) => color))
    const words = settings.mappings?.find(({ type }) => type === 'value')?.options ?? {}
    if (colours.size < 2 && Object.keys(words).length <= 2) continue
    const values = latest(await ask(question, cluster), now)
    const whole = panel.type === 'table' ? panel.fieldConfig?.defaults : settings
    absent[name] = written(shown(whole ?? {}, null))
    seen[name] ??= new Set()
    for (const value of values) seen[name].add(written(shown(settings, value)))
  }
  // Several queries may fill one column, or one panel with tiles.
  const looksOf = (name: string, looks: Set<string>) =>
    looks.size === 0 ? [absent[name] ?? ''] : [...looks].toSorted()
  return Object.fromEntries(Object.entries(seen).map(([name, looks]) => [name, looksOf(name, looks)]))
}

const healthy = await picture('healthy')

/** What is seen of a cluster and not of a healthy one. */
async function changes(cluster: string): Promise<Record<string, string[]>> {
  return Object.fromEntries(
    Object.entries(await picture(cluster)).filter(([name, looks]) => String(looks) !== String(healthy[name])),
  )
}

/** What the table of the overview says is wrong, with the number of places. */
async function wrong(cluster: string): Promise<Record<string, number>> {
  const parts = questions.filter(({ name }) => name.startsWith('overview: What is wrong'))
  const found = (await Promise.all(parts.map((question) => ask(question, cluster)))).flat()
  return Object.fromEntries(
    Object.entries(Object.groupBy(found, ({ labels }) => labels.problem ?? '')).map(([name, all]) => [
      name,
      all?.length ?? 0,
    ]),
  )
}

await t.test('every query gives what its panel shows, of a healthy cluster', async (t) => {
  for (const question of questions) {
    const { name, panel, target } = question
    const series = await ask(question, 'healthy')
    if (name.startsWith('overview: What is wrong')) {
      t.same(series, [])
      continue
    }
    t.ok(series.length > 0, `${name} has data`)
    if (panel.type === 'timeseries' || panel.type === 'state-timeline')
      t.ok(
        series.every(({ points }) => points.length > 10),
        `${name} has a past`,
      )
    const shownLabels = [...(target.legendFormat ?? '').matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '')
    const organize = panel.transformations?.find(({ id }) => id === 'organize')
    const rows = Object.keys(organize?.options.renameByName ?? {}).filter((field) => !field.startsWith('Value'))
    // A label that is empty is none: physical backups have no database, and the Watchdog no cluster.
    for (const { labels } of series) {
      const extra = Object.keys(labels).filter((label) => ![...shownLabels, ...rows].includes(label))
      t.same(extra, [], `${name}: each label is shown`)
    }
    const all = await ask(question, '.*')
    for (const label of [...shownLabels, ...rows])
      t.ok(
        all.some(({ labels }) => label in labels),
        `${name}: something has ${label}`,
      )
  }
})

await t.test('nothing that is well looks otherwise', async (t) => {
  for (const [name, looks] of Object.entries(healthy)) t.notMatch(String(looks), /red|orange|purple/, name)
  t.same(await changes('honored'), {}, 'nor where Prometheus honours our label `job`')
})

await t.test('a cluster of which nothing is new', async (t) => {
  t.strictSame(await changes('stale'), {
    'overview: Can we recover?': ['late (orange)'],
    'overview: What is wrong / Critical': ['critical (red)'],
    'overview: What is wrong / Warning': ['warning (orange)'],
    'overview: How much of each limit is used / Recovery point': ['red'],
    'overview: How much of each limit is used / Backups': ['red'],
    'overview: How much of each limit is used / Tests': ['red'],
    'overview: Repositories / Objective used': ['red'],
    'backups: Too old': ['red'],
    'backups: Newest backups / Limit used': ['red'],
    'wal: Recovery point objective used': ['red'],
    'verification: Test overdue': ['red'],
    'verification: Last verdicts / Limit used': ['red'],
    'sidecar: Stuck jobs': ['red'],
  })
  t.match(await wrong('stale'), { 'Backup too old': Number, 'Verification too old': 5, 'Objective missed': 1 })
})

await t.test('a cluster in which all sorts of things have failed', async (t) => {
  t.strictSame(await changes('failed'), {
    'overview: Can we recover?': ['late (orange)'],
    'overview: Proven when?': ['not all (red)'],
    'overview: What is wrong / Critical': ['critical (red)'],
    'overview: What is wrong / Warning': ['warning (orange)'],
    'overview: How much of each limit is used / Recovery point': ['red'],
    'overview: Repositories / Readable': ['no (red)', 'yes (green)'],
    'overview: Repositories / Objective used': ['red'],
    'backups: Last attempt failed': ['red'],
    'backups: Unusable, or broken files': ['red'],
    'backups: Newest backups / Unusual': ['yes (red)'],
    'backups: Room, retention and cost / Expiry blocked': ['no (green)', 'yes (red)'],
    'backups: Room, retention and cost / Budget used': ['red'],
    'backups: Room, retention and cost / Weaknesses': ['red'],
    'backups: How buckets are set up / Well': ['no (orange)'],
    'wal: Archiver': ['failing (red)'],
    'wal: Recovery point objective used': ['red'],
    'wal: Missing segments': ['red'],
    'wal: Receiver': ['stuck (red)'],
    'wal: WAL of each repository / Missing': ['red'],
    'wal: WAL of each repository / Quarantined': ['red'],
    'wal: State of the archiver': ['failing (red)'],
    'wal: Replication slots / In use': ['no (orange)'],
    'wal: Replication slots / Lost': ['yes (red)'],
    'verification: Found bad': ['red'],
    'verification: Never proven': ['red'],
    'verification: Last verdicts / Artifact': ['never (purple)', 'pass (green)'],
    'verification: Last verdicts / Restore': ['fail (red)', 'inconclusive (orange)', 'never (purple)', 'pass (green)'],
    'verification: Last verdicts / Data': ['never (purple)', 'pass (green)'],
    'verification: Verdicts': ['fail (red)', 'inconclusive (orange)', 'pass (green)'],
    'sidecar: Server answers': ['no (red)'],
    'sidecar: Blind collectors': ['red'],
    'sidecar: Stuck jobs': ['red'],
    'sidecar: Jobs / Failed in a day': ['red'],
    'sidecar: Collectors': ['no (red)', 'yes (green)'],
    'sidecar: Repositories': ['no (red)', 'yes (green)'],
    'sidecar: Who writes': ['stands by (text)'],
  })
  t.match(await wrong('failed'), {
    'Server down': 1,
    'Repository down': 1,
    'Last attempt failed': 2,
    'Found bad': 1,
    'Test without a result': 1,
    'Watched dump broken': 1,
    'Watched database gone': 1,
    'Nobody writes': 2,
    'Hook failed': 1,
    'Not told': 1,
    'Over budget': 2,
    'Expiry blocked': 1,
    'Job stuck': 1,
  })
})

await t.test('a database that is nowhere', async (t) => {
  t.match(await changes('lost'), {
    'overview: Can we recover?': ['not everything (red)'],
    'overview: Proven when?': ['not all (red)'],
    'backups: Never backed up': ['red'],
  })
  t.match(await wrong('lost'), { 'Never backed up': 1, 'Cannot be recovered': 1 })
})

await t.test('what cannot be trusted is not known', async (t) => {
  t.strictSame(await changes('unreadable'), {
    'overview: Can we recover?': ['unknown (purple)'],
    'overview: What is wrong / Critical': ['critical (red)'],
    'overview: What is wrong / Warning': ['warning (orange)'],
    'overview: How much of each limit is used / Recovery point': ['unknown (purple)'],
    'overview: Repositories / Readable': ['no (red)'],
    'sidecar: Blind collectors': ['red'],
    'sidecar: Collectors': ['no (red)', 'yes (green)'],
    'sidecar: Repositories': ['no (red)'],
  })
  t.match(await changes('ahead'), {
    'overview: Can we recover?': ['unknown (purple)'],
    'wal: Recovery point objective used': ['unknown (purple)'],
  })
  t.match(await wrong('ahead'), { 'Clock ahead': Number })
})

await t.test('limits are those of the configuration', async (t) => {
  t.strictSame(await changes('strict'), {
    'overview: Can we recover?': ['late (orange)'],
    'overview: What is wrong / Critical': ['critical (red)'],
    'overview: What is wrong / Warning': ['warning (orange)'],
    'overview: How much of each limit is used / Recovery point': ['red'],
    'overview: How much of each limit is used / Backups': ['red'],
    'overview: How much of each limit is used / Tests': ['red'],
    'overview: How much of each limit is used / Time to recover': ['red'],
    'overview: Repositories / Objective used': ['red'],
    'backups: Too old': ['red'],
    'backups: Newest backups / Limit used': ['green', 'red'],
    'wal: Recovery point objective used': ['red'],
    'verification: Test overdue': ['red'],
    'verification: Last verdicts / Limit used': ['red'],
  })
})

await t.test('what is not known is never green', async (t) => {
  // What is true of a sidecar that has just started, and of alerts.
  const known = /^sidecar: (Sidecars|Versions \/ Runs)$/
  for (const cluster of ['silent', 'unseen', 'nobody']) {
    for (const [name, looks] of Object.entries(await picture(cluster))) {
      if (name.startsWith('overview: What is wrong') || (cluster === 'unseen' && known.test(name))) continue
      t.match(
        String(looks),
        /^(unknown \((purple|text)\)|sidecar silent \(purple\)|not (measured|used) \(\w+\)|[a-z ]+, or unknown \(text\))$/,
        `${cluster}: ${name}`,
      )
    }
  }
  t.match(await wrong('silent'), { 'Sidecar gone': 1 })
  t.same(await wrong('nobody'), { 'No data: is a sidecar scraped?': 1 })
})

await t.test('all clusters at once', async (t) => {
  const all = await Promise.all(
    questions.map((question) => ask(question, '.*').then((series) => [question.name, series] as const)),
  )
  for (const [name, series] of all) t.ok(series.length > 0, name)
  const [, tiles = []] = all.find(([name]) => name === 'overview: Can we recover?') ?? []
  t.equal(tiles.length, 10, 'each has a tile, also those whose sidecar is silent')
})

await t.test('annotations stand where something happened', async (t) => {
  const annotations = stored.flatMap(
    ({ annotations }) => (annotations as { list: { name: string; expr: string }[] }).list,
  )
  t.equal(annotations.length, 3 * stored.length)
  for (const { name, expr } of annotations.slice(0, 3)) {
    const found = await prometheus.range(interpolated(expr, 'failed'), now - 600, now, 60)
    t.ok(found.length > 0, name)
    if (name === 'Runs') t.same(new Set(found.map(({ labels }) => labels.job)), new Set(['dump', 'verify']))
    if (name !== 'Alerts')
      t.ok(
        found.every(({ points }) => points.every(([, ms]) => ms > (now - 86_400) * 1_000 && ms < now * 1_000)),
        `${name}, in ms`,
      )
  }
})
