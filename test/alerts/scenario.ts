import { expand } from './template.ts'
import type { AlertRule } from './trials.ts'

/** The moment of a sample. */
export interface Now {
  /** Seconds since the test began. */
  readonly t: number
  /** Seconds since things went wrong; negative before. */
  readonly since: number
  /** Between two samples, and two evaluations, seconds. */
  readonly step: number
  /** A limit that fits the test: five steps, seconds. */
  readonly limit: number
}

/** Null: the series has no sample. */
export type Value = number | null | ((now: Now) => number | null)

/** A series, but for its `cluster_name`, and what it is when all is well. */
export interface Line {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly well: Value
  /** When the alert must fire. Lines without are the surroundings. */
  readonly bad?: Value
  /** As far as it may go: not bad yet. */
  readonly edge?: Value
}

/**
 * Whether it fires as soon as it has held for its `for`, and at the end: `once` only at first, `later` only at the end;
 * `always` before that as well, `early` before that and then not to the end.
 */
export type Outcome = 'silent' | 'fires' | 'once' | 'later' | 'always' | 'early'

/** From the value of the first line that is bad; `at` tells what that was at another time. */
export type AlertValue = (x: number, now: Now, at: (t: number) => number | null) => number

/** What a case says of one alert; `build` makes its tests. */
export interface Case {
  readonly alert: string
  /** What tells this alert from others of the same cluster. */
  readonly labels?: Readonly<Record<string, string>>
  readonly lines: readonly Line[]
  /** The value of the alert, from that of the first line that is bad. */
  readonly value?: AlertValue
  /** What it does when what it looks at is gone, stands still (all of it), is 0, and is bad for one sidecar of two. */
  readonly gone: Outcome
  readonly frozen: Outcome
  readonly zero: Outcome
  readonly half: Outcome
  /** Labels of which there are others beside, that are well. Default: those of the alert. */
  readonly around?: readonly string[]
  /** Seconds; default: a fifth of its `for`. */
  readonly step?: number
  /** Steps until things go wrong. Default: 3. */
  readonly before?: number
  /** Steps from then on until the expression holds, where it looks at a range. Default: 0. */
  readonly delay?: number
  /** What differs in those that are beside, by the place of the line. */
  readonly beside?: Readonly<Record<number, Value>>
  /** Further clusters: lines by their place in `lines`, from the time when things go wrong in the others. */
  readonly also?: Readonly<Record<string, Further>>
}

export interface Further {
  readonly outcome: Outcome
  /** Those that differ; what is not named is as when it is bad. */
  readonly lines: Readonly<Record<number, Value>>
  /** It has been so all the time. */
  readonly always?: boolean
  readonly value?: AlertValue
}

interface Series {
  readonly series: string
  readonly values: string
}

/** Until what is to come later has come. */
const stepsForLater = 16

export const secondsOf = (duration: string): number => {
  const [, count = '0', unit = 's'] = /^(\d+)([smhd])$/.exec(duration) ?? []
  return Number(count) * ({ s: 1, m: 60, h: 3600, d: 86_400 }[unit] ?? 1)
}

/** All clusters of a case in one storage, each named after what happens in it: so they are shown to be apart as well. */
export function build(one: Case, rule: AlertRule): { readonly step: number; readonly test: object } {
  const lasting = secondsOf(rule.for ?? '0s')
  const step = one.step ?? (lasting === 0 ? 60 : lasting / 5)
  const start = step * (one.before ?? 3)
  const first = start + (one.delay ?? 0) * step + lasting
  const outcomes = [
    one.gone,
    one.frozen,
    one.zero,
    one.half,
    ...Object.values(one.also ?? {}).map(({ outcome }) => outcome),
  ]
  const end = first + (outcomes.includes('later') ? stepsForLater : 2) * step
  const nowAt = (t: number): Now => ({ t, since: t - start, step, limit: 5 * step })
  const valueAt = (value: Value | undefined, t: number) => {
    const found = typeof value === 'function' ? value(nowAt(t)) : value
    return found === undefined ? null : found
  }
  const series = new Map<string, string>()
  const add = (line: Line, labels: Readonly<Record<string, string>>, value: (t: number) => number | null) => {
    const own = { ...line.labels, ...labels }
    const ordered = Object.keys(own).toSorted()
    const key = `${line.name}{${ordered.map((label) => `${label}=${JSON.stringify(own[label])}`).join(',')}}`
    if (series.has(key)) return
    const values: string[] = []
    let present = false
    for (let t = 0; t <= end; t += step) {
      const found = value(t)
      values.push(found !== null ? String(found) : present ? 'stale' : '_')
      present = found !== null
    }
    series.set(key, values.join(' '))
  }
  /** Labels of a target. Ours of that name gets another one, unless it is honoured. */
  const target = (line: Line, instance: string, honoured: boolean) => {
    const job = line.labels?.job
    return job === undefined || honoured
      ? { instance, job: job ?? 'lifeboat' }
      : { instance, job: 'lifeboat', exported_job: job }
  }
  type Course = (line: Line, index: number, t: number) => number | null
  const addCluster = (cluster: string, course: Course, { instance = 'a:10187', honoured = false } = {}) => {
    for (const [index, line] of one.lines.entries()) {
      add(line, { cluster_name: cluster, ...target(line, instance, honoured) }, (t) => course(line, index, t))
    }
  }
  const isSubject = (line: Line) => line.bad !== undefined
  const well: Course = (line, _, t) => valueAt(line.well, t)
  const from =
    (later: Course): Course =>
    (line, index, t) =>
      t < start ? well(line, index, t) : later(line, index, t)
  const bad = from((line, _, t) => valueAt(isSubject(line) ? line.bad : line.well, t))
  const frozen: Course = (line, _, t) => valueAt(line.well, Math.min(t, start - step))

  const firing: { cluster: string; outcome: Outcome; course: Course; value: AlertValue }[] = []
  const itself: AlertValue = (x) => x
  const expect = (cluster: string, outcome: Outcome, course: Course, value = one.value ?? itself) =>
    firing.push({ cluster, outcome, course, value })

  addCluster('bad', bad)
  expect('bad', 'fires', bad)
  for (const label of one.around ?? Object.keys(one.labels ?? {})) {
    for (const [index, line] of one.lines.entries()) {
      const there = line.labels?.[label]
      const other = there === undefined ? {} : { [label === 'job' ? 'exported_job' : label]: `other-${there}` }
      add(line, { cluster_name: 'bad', ...target(line, 'a:10187', false), ...other }, (t) =>
        valueAt(one.beside?.[index] ?? line.well, t),
      )
    }
  }
  addCluster('well', well)
  addCluster('pair', bad)
  addCluster('pair', bad, { instance: 'b:10187' })
  expect('pair', 'fires', bad)
  addCluster('half', well)
  addCluster('half', bad, { instance: 'b:10187' })
  expect('half', one.half, bad)
  if (one.lines.some(({ labels }) => labels?.job !== undefined)) {
    addCluster('honoured', bad, { honoured: true })
    expect('honoured', 'fires', bad)
  }
  if (one.lines.some(({ edge }) => edge !== undefined)) {
    addCluster(
      'edge',
      from((line, _, t) => valueAt(line.edge ?? line.well, t)),
    )
  }
  if (lasting > 0 && one.before === undefined && one.delay === undefined) {
    addCluster('brief', (line, index, t) => (t >= start && t < start + lasting ? bad : well)(line, index, t))
  }
  const gone = from((line, index, t) => (isSubject(line) ? null : well(line, index, t)))
  addCluster('gone', gone)
  expect('gone', one.gone, gone)
  const zero = from((line, index, t) => (isSubject(line) ? 0 : well(line, index, t)))
  addCluster('zero', zero)
  expect('zero', one.zero, zero)
  addCluster('frozen', frozen)
  expect('frozen', one.frozen, frozen)
  for (const [cluster, { outcome, lines, always = false, value }] of Object.entries(one.also ?? {})) {
    const differing: Course = (line, index, t) => {
      const found = lines[index]
      return found === undefined ? bad(line, index, t) : valueAt(found, t)
    }
    const course = always ? differing : from(differing)
    addCluster(cluster, course)
    expect(cluster, outcome, course, value)
  }

  const subject = one.lines.findIndex(isSubject)
  const subjectLine = one.lines[subject]
  if (subjectLine === undefined) throw new Error(`${one.alert}: nothing is bad`)
  const at = (t: number, outcomes: readonly Outcome[]) => ({
    eval_time: `${t}s`,
    alertname: one.alert,
    exp_alerts: firing
      .filter(({ outcome }) => outcomes.includes(outcome))
      .map(({ cluster, course, value }) => {
        const valueThen = (then: number) => course(subjectLine, subject, then)
        const labels = { cluster_name: cluster, ...one.labels }
        const context = { labels, value: value(valueThen(t) ?? Number.NaN, nowAt(t), valueThen) }
        const expanded = (texts: Readonly<Record<string, string>>) =>
          Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, expand(text, context)]))
        return { exp_labels: { ...labels, ...expanded(rule.labels) }, exp_annotations: expanded(rule.annotations) }
      }),
  })
  const test = {
    interval: `${step}s`,
    input_series: [...series].map(([name, values]): Series => ({ series: name, values })),
    alert_rule_test: [
      at(first - step, ['always', 'early']),
      at(first, ['always', 'early', 'fires', 'once']),
      at(end, ['always', 'fires', 'later']),
    ],
  }
  return { step, test }
}
