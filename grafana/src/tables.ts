import * as common from '@grafana/grafana-foundation-sdk/common'
import type * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import { PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import * as table from '@grafana/grafana-foundation-sdk/table'
import { type Judgement, mappings, steps, type Words } from './looks.ts'
import { described, letterOf, limits, type PanelFacts, target } from './panels.ts'

/** A column of numbers. */
export interface Column {
  readonly title: string
  readonly query: string
  readonly unit: string
  /** Judged cells are coloured. */
  readonly judgement?: Judgement
  readonly words?: Words
  /** The word for a row without a value: `unknown`, or what its absence means. */
  readonly absent?: string
  readonly decimals?: number
}

export interface TableFacts extends PanelFacts {
  /** The labels that make a row, and what they are called. */
  readonly rows: Readonly<Record<string, string>>
  readonly columns: readonly Column[]
  /** The uid of the dashboard that a click on the first label leads to. */
  readonly leadsTo?: string
  /** The numbers stand before the labels, the largest first: they say how bad it is. */
  readonly isRanked?: boolean
}

/** The field that a query fills: with one query alone its letter is not in the name. */
function fieldOf(columns: readonly Column[], index: number): string {
  return columns.length === 1 ? 'Value' : `Value #${letterOf(index)}`
}

function override({ title, unit, judgement = 'plain', words = {}, absent = 'unknown', decimals }: Column) {
  const isColoured = judgement !== 'plain' || Object.keys(words).length > 0
  const missing = { ...steps(judgement)[0], value: null, color: absent === 'unknown' ? 'purple' : 'text' }
  const properties: dashboard.DynamicConfigValue[] = [
    { id: 'unit', value: unit },
    { id: 'mappings', value: mappings(words, absent) },
    { id: 'noValue', value: absent },
    {
      id: 'thresholds',
      value: { mode: 'absolute', steps: isColoured ? [missing, ...steps(judgement).slice(1)] : steps('plain') },
    },
  ]
  if (decimals !== undefined) properties.push({ id: 'decimals', value: decimals })
  if (isColoured) properties.push({ id: 'custom.cellOptions', value: { type: 'color-background', mode: 'basic' } })
  return { title, properties }
}

/** A row for each combination of the labels, a column for each query. */
export function tablePanel(facts: TableFacts): table.PanelBuilder {
  const { columns, rows } = facts
  const labels = Object.keys(rows)
  const fields = columns.map((_, index) => fieldOf(columns, index))
  const order = facts.isRanked === true ? [...fields, ...labels] : [...labels, ...fields]
  const renamed = {
    ...rows,
    ...Object.fromEntries(columns.map(({ title }, index) => [fieldOf(columns, index), title])),
  }
  const panel = described(new table.PanelBuilder(), facts, 9)
    .thresholds(limits('plain'))
    .minWidth(90)
    .cellHeight(common.TableCellHeight.Sm)
    .showHeader(true)
    .targets(
      columns.map(({ query }, index) => target({ query, legend: '' }, index).instant().format(PromQueryFormat.Table)),
    )
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        includeByName: {},
        indexByName: Object.fromEntries(order.map((name, index) => [name, index])),
        renameByName: renamed,
      },
    })
  for (const { title, properties } of columns.map(override)) panel.overrideByName(title, properties)
  const [ranking] = columns
  if (facts.isRanked === true && ranking !== undefined)
    panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(ranking.title).desc(true)])
  const [first, label] = Object.values(rows)
  if (facts.leadsTo !== undefined && first !== undefined) {
    const of = `\${__data.fields["${rows.cluster_name ?? label}"]}`
    const url = `/d/${facts.leadsTo}?var-cluster_name=${of}&\${datasource:queryparam}&\${__url_time_range}`
    panel.overrideByName(first, [{ id: 'links', value: [{ title: 'Look closer', url }] }])
  }
  return panel
}
