import * as common from '@grafana/grafana-foundation-sdk/common'
import type * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import { PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import * as table from '@grafana/grafana-foundation-sdk/table'
import { type Judgement, mappings, steps, type Words } from './looks.ts'
import { described, letterOf, limits, type PanelFacts, target } from './panels.ts'

/** A column of numbers. */
export interface Column {
  readonly title: string
  /** Several where one would be too slow: together they fill the column, each in rows of its own. */
  readonly query: string | readonly string[]
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

/** The field of a column, and those that its queries fill: with one query alone its letter is not in the name. */
interface Filled {
  readonly field: string
  readonly parts: readonly string[]
}

const queriesOf = ({ query }: Column): readonly string[] => (typeof query === 'string' ? [query] : query)

function filled(columns: readonly Column[]): readonly Filled[] {
  const count = columns.flatMap(queriesOf).length
  let index = 0
  return columns.map((column) => {
    const parts = queriesOf(column).map(() => (count === 1 ? 'Value' : `Value #${letterOf(index++)}`))
    const [field = ''] = parts
    return { field: parts.length === 1 ? field : `Value of ${column.title}`, parts }
  })
}

/** Makes one column of what several queries have filled. It is theirs that is not null. */
const joined = ({ field, parts }: Filled): dashboard.DataTransformerConfig => ({
  id: 'calculateField',
  options: { mode: 'reduceRow', reduce: { reducer: 'max', include: parts }, alias: field, replaceFields: false },
})

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

/** A row for each combination of the labels, and the columns. */
export function tablePanel(facts: TableFacts): table.PanelBuilder {
  const { columns, rows } = facts
  const labels = Object.keys(rows)
  const all = filled(columns)
  const fields = all.map(({ field }) => field)
  const order = facts.isRanked === true ? [...fields, ...labels] : [...labels, ...fields]
  const renamed = { ...rows, ...Object.fromEntries(columns.map(({ title }, index) => [fields[index], title])) }
  const several = all.filter(({ parts }) => parts.length > 1)
  const panel = described(new table.PanelBuilder(), facts, 9)
    .thresholds(limits('plain'))
    .minWidth(90)
    .cellHeight(common.TableCellHeight.Sm)
    .showHeader(true)
    .targets(
      columns
        .flatMap(queriesOf)
        .map((query, index) => target({ query, legend: '' }, index).instant().format(PromQueryFormat.Table)),
    )
    .withTransformation({ id: 'merge', options: {} })
  for (const column of several) panel.withTransformation(joined(column))
  panel.withTransformation({
    id: 'organize',
    options: {
      excludeByName: Object.fromEntries(['Time', ...several.flatMap(({ parts }) => parts)].map((name) => [name, true])),
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
