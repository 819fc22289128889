import type { Series } from '../support/prometheus.ts'

/** A panel as it is stored: the parts that decide what is seen. */
export interface StoredPanel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly datasource?: { readonly type: string; readonly uid: string }
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly StoredTarget[]
  readonly transformations?: readonly {
    readonly id: string
    readonly options: {
      readonly renameByName?: Record<string, string>
      readonly alias?: string
      readonly reduce?: { readonly include?: readonly string[] }
    }
  }[]
  readonly fieldConfig?: {
    readonly defaults: FieldSettings
    readonly overrides: readonly {
      readonly matcher: { readonly id: string; readonly options: string }
      readonly properties: readonly { readonly id: string; readonly value: unknown }[]
    }[]
  }
  readonly options?: { readonly legend?: { readonly placement?: string } }
}

export interface StoredTarget {
  readonly refId: string
  readonly expr: string
  readonly legendFormat?: string
  readonly instant?: boolean
  readonly range?: boolean
  readonly datasource?: { readonly uid: string }
}

export interface FieldSettings {
  readonly unit?: string
  readonly noValue?: string
  readonly mappings?: readonly StoredMapping[]
  readonly thresholds?: { readonly steps: readonly { readonly value: number | null; readonly color: string }[] }
}

interface StoredMapping {
  readonly type: string
  readonly options: Record<string, { readonly text?: string; readonly color?: string }> & {
    readonly result?: { readonly text?: string; readonly color?: string }
  }
}

export interface StoredDashboard {
  readonly uid: string
  readonly title: string
  readonly panels: readonly StoredPanel[]
  readonly [key: string]: unknown
}

/** What is seen of a value: its text where it is a word, and its colour. */
export interface Shown {
  readonly text: string | null
  readonly color: string
}

/** As Grafana does it: mappings first, then thresholds. `null`: there is no value. */
export function shown(settings: FieldSettings, value: number | null): Shown {
  const { mappings = [], thresholds, noValue } = settings
  const steps = thresholds?.steps ?? []
  const base = steps[0]?.color ?? 'text'
  if (value === null) {
    const special = mappings.find(({ type }) => type === 'special')?.options.result
    return { text: special?.text ?? noValue ?? null, color: special?.color ?? base }
  }
  const color = steps.findLast((step) => step.value === null || value >= step.value)?.color ?? base
  const word = mappings.find(({ type }) => type === 'value')?.options[String(value)]
  return { text: word?.text ?? null, color: word?.color ?? color }
}

/** The field of a table that a query fills: its own, or the one that is made of those of several. */
export function fieldOf({ targets, transformations = [] }: StoredPanel, refId: string): string {
  const own = targets?.length === 1 ? 'Value' : `Value #${refId}`
  const joined = transformations.find(
    ({ id, options }) => id === 'calculateField' && options.reduce?.include?.includes(own),
  )
  return joined?.options.alias ?? own
}

/** The settings of what a query fills: in a table those of its column. */
export function settingsOf(panel: StoredPanel, refId: string): FieldSettings & { readonly title: string | null } {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {}
  if (panel.type !== 'table') return { ...defaults, title: null }
  const renamed = panel.transformations?.find(({ id }) => id === 'organize')?.options.renameByName ?? {}
  const title = renamed[fieldOf(panel, refId)] ?? null
  const own = overrides.filter(({ matcher }) => matcher.id === 'byName' && matcher.options === title)
  return {
    ...defaults,
    ...Object.fromEntries(own.flatMap(({ properties }) => properties.map(({ id, value }) => [id, value]))),
    title,
  }
}

/** A query as Grafana sends it. */
export function interpolated(expr: string, cluster: string): string {
  return expr.replaceAll('$cluster_name', cluster).replaceAll('$__rate_interval', '5m')
}

/** The newest value of each series. */
export function latest(series: readonly Series[], at: number): number[] {
  return series.flatMap(({ points }) => {
    const last = points.at(-1)
    return last !== undefined && last[0] === at ? [last[1]] : []
  })
}
