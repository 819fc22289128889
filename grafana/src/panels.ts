import * as common from '@grafana/grafana-foundation-sdk/common'
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import * as stat from '@grafana/grafana-foundation-sdk/stat'
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline'
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries'
import { colours, type Judgement, mappings, steps, type Words } from './looks.ts'
import { scoped } from './promql.ts'

export const datasource: common.DataSourceRef = { type: 'prometheus', uid: `\${datasource}` }

/** What every panel says of itself. Its id is that of links to it: it is never given to another one. */
export interface PanelFacts {
  readonly id: number
  readonly title: string
  /** What it shows, and what to do about it. */
  readonly description: string
  /** Of Grafana's units. */
  readonly unit: string
  /** Columns of 24. On a phone every panel has the whole width. */
  readonly width: number
  readonly height?: number
  /** Default: beside the one before it, or below. */
  readonly place?: { readonly x: number; readonly y: number }
  /** Shown where there is no data. */
  readonly absent?: string
}

/** A query, and the name of its results with labels as {{label}}. */
export interface Target {
  readonly query: string
  readonly legend: string
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'

export function letterOf(index: number): string {
  return letters.charAt(index)
}

/** The query of a panel, of the chosen clusters. */
export function target({ query, legend }: Target, index: number): DataqueryBuilder {
  return new DataqueryBuilder().refId(letterOf(index)).datasource(datasource).expr(scoped(query)).legendFormat(legend)
}

/** The latest value. */
export function instant(one: Target, index: number): DataqueryBuilder {
  return target(one, index).instant().format(PromQueryFormat.TimeSeries)
}

interface Described {
  id(id: number): this
  title(title: string): this
  description(description: string): this
  unit(unit: string): this
  span(width: number): this
  height(height: number): this
  gridPos(place: dashboard.GridPos): this
  datasource(ref: common.DataSourceRef): this
  transparent(isTransparent: boolean): this
  noValue(text: string): this
}

export function described<Builder extends Described>(builder: Builder, facts: PanelFacts, height: number): Builder {
  const size = { w: facts.width, h: facts.height ?? height }
  const described = builder
    .id(facts.id)
    .title(facts.title)
    .description(facts.description)
    .unit(facts.unit)
    .span(size.w)
    .height(size.h)
    .datasource(datasource)
    .noValue(facts.absent ?? 'unknown')
  return facts.place === undefined ? described : described.gridPos({ ...facts.place, ...size })
}

/**
 * Points of a line and of a row of states at most. More cannot be told apart where two panels share a screen, and Prometheus
 * reads the less for each.
 */
const [linePoints, statePoints] = [280, 150]
/** The same for lines of all clusters at once, where another dashboard has those of each. */
export const coarsePoints = 160

const latest = () => new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false).fields('')

export const limits = (judgement: Judgement) =>
  new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps(judgement))

const byThresholds = () => new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds)

export interface StatFacts extends PanelFacts {
  readonly targets: readonly Target[]
  readonly judgement: Judgement
  readonly words?: Words
  /** Tiles of judged values have their colour; these too, though it comes from their words alone. */
  readonly isFilled?: boolean
  readonly decimals?: number
}

/** A number or a word for each result. */
export function statPanel(facts: StatFacts): stat.PanelBuilder {
  const panel = described(new stat.PanelBuilder(), facts, 5)
    .thresholds(limits(facts.judgement))
    .colorScheme(byThresholds())
    .mappings(mappings(facts.words ?? {}, facts.absent ?? 'unknown'))
    .reduceOptions(latest())
    .graphMode(common.BigValueGraphMode.None)
    .colorMode(
      facts.judgement === 'plain' && facts.isFilled !== true
        ? common.BigValueColorMode.Value
        : common.BigValueColorMode.Background,
    )
    .textMode(common.BigValueTextMode.ValueAndName)
  if (facts.decimals !== undefined) panel.decimals(facts.decimals)
  return panel.targets(facts.targets.map(instant))
}

/**
 * Lines over time, in colours that differ as much as they can. Those whose name ends with `limit` are dashed and red, in
 * every panel: the legend is for the others.
 */
export function seriesPanel(
  facts: PanelFacts & { readonly targets: readonly Target[]; readonly isStacked?: boolean; readonly points?: number },
): timeseries.PanelBuilder {
  const panel = described(new timeseries.PanelBuilder(), facts, 8)
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.PaletteClassic))
    .thresholds(limits('plain'))
    .min(0)
    .maxDataPoints(facts.points ?? linePoints)
    .fillOpacity(facts.isStacked === true ? 30 : 0)
    .lineWidth(2)
    // A gap is a gap: nothing was known then.
    .spanNulls(false)
    .showPoints(common.VisibilityMode.Auto)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
        .calcs([]),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
    )
    .overrideByRegexp('/limit$/', [
      { id: 'color', value: { mode: 'fixed', fixedColor: colours.bad } },
      { id: 'custom.lineStyle', value: { fill: 'dash', dash: [10, 10] } },
      { id: 'custom.hideFrom', value: { legend: true, tooltip: false, viz: false } },
      { id: 'custom.lineWidth', value: 2 },
      { id: 'custom.stacking', value: { mode: 'none', group: 'limit' } },
    ])
    .targets(facts.targets.map(target))
  return facts.isStacked === true
    ? panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('all'))
    : panel
}

/** States over time, a line for each result. */
export function timelinePanel(facts: StatFacts): statetimeline.PanelBuilder {
  return described(new statetimeline.PanelBuilder(), facts, 7)
    .thresholds(limits(facts.judgement))
    .colorScheme(byThresholds())
    .mappings(mappings(facts.words ?? {}, facts.absent ?? 'unknown'))
    .mergeValues(true)
    .maxDataPoints(statePoints)
    .showValue(common.VisibilityMode.Auto)
    .spanNulls(false)
    .fillOpacity(80)
    .rowHeight(0.85)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(false)
        .calcs([]),
    )
    .targets(facts.targets.map(target))
}
