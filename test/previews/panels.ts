import type { StoredPanel } from '../grafana/shown.ts'
import { fieldOf, settingsOf } from '../grafana/shown.ts'
import { type Look, type Mark, type Result, type Seen, seen, spanOf, type Writer } from './asked.ts'
import { colour, lineColour, theme } from './theme.ts'
import { written } from './units.ts'

/** What uPlot draws in the page, by test/previews/page.js. */
export interface Chart {
  readonly id: string
  readonly width: number
  readonly height: number
  readonly from: number
  readonly to: number
  readonly times: readonly number[]
  readonly marks: readonly Mark[]
  readonly lines: readonly {
    readonly name: string
    readonly color: string
    readonly isDashed: boolean
    readonly width: number
    /** How much of the area below is filled, from 0 to 1. */
    readonly fill: number
    readonly values: readonly (number | null)[]
  }[]
  readonly min: number | null
  /** Texts of the axis, for the browser does not know the units: from the value that an axis reaches on, its ticks. */
  readonly unit: string
}

/** A panel as it is drawn: as HTML, with what is left for uPlot. */
export interface Drawn {
  readonly html: string
  readonly chart?: Chart
}

export interface Place {
  readonly id: string
  readonly width: number
  readonly height: number
  readonly look: Look
  readonly marks: readonly Mark[]
}

type Painter = (panel: StoredPanel, results: readonly Result[], place: Place) => Drawn

/** The kinds of panels that the previews can draw. */
export const painters: Readonly<Record<string, Painter>> = {
  stat: paintStat,
  table: paintTable,
  timeseries: paintLines,
  'state-timeline': paintStates,
}

export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}

const writerAt =
  (now: number): Writer =>
  (value, unit, decimals) =>
    written(value, unit, now, decimals)

function latest({ points }: Result): number | null {
  return points.findLast(([, value]) => !Number.isNaN(value))?.[1] ?? null
}

/** The results as a panel shows them, or the one word for there being none. */
function values(
  panel: StoredPanel,
  results: readonly Result[],
  now: number,
): readonly (Seen & { name: string; value: number | null })[] {
  const write = writerAt(now)
  if (results.length === 0) return [{ ...seen(panel, 'A', null, write), name: '', value: null }]
  return results.map((result) => {
    const value = latest(result)
    return { ...seen(panel, result.refId, value, write), name: result.name, value }
  })
}

/** Tiles side by side, the text as large as it fits. */
function paintStat(panel: StoredPanel, results: readonly Result[], { width, height, look }: Place): Drawn {
  const all = values(panel, results, look.now)
  const isFilled = (panel.options as { colorMode?: string } | undefined)?.colorMode === 'background'
  const columns = Math.max(1, Math.min(all.length, Math.round(Math.sqrt((all.length * width) / height / 1.2))))
  const lines = Math.ceil(all.length / columns)
  const [tileWidth, tileHeight] = [width / columns - 4, height / lines - 4]
  const fits = (text: string, room: number, most: number) =>
    Math.max(10, Math.min(most, (tileWidth - 20) / (text.length * 0.56), room))
  // All tiles of a panel have one size of text.
  const size = Math.min(...all.map(({ text }) => fits(text, tileHeight * 0.5, 46)))
  const tiles = all.map(({ text, color, name }) => {
    const style = isFilled
      ? `background: linear-gradient(120deg, color-mix(in srgb, ${colour(color)} 78%, black), ${colour(color)}); color: ${color === 'text' ? '#111' : '#fff'}`
      : `color: ${colour(color)}`
    const label = name === '' ? '' : `<small>${escaped(name)}</small>`
    return `<div class="tile" style="${style}">${label}<b style="font-size: ${size.toFixed(1)}px">${escaped(text)}</b></div>`
  })
  return { html: `<div class="tiles" style="grid-template-columns: repeat(${columns}, 1fr)">${tiles.join('')}</div>` }
}

interface Row {
  readonly labels: readonly string[]
  /** Values by their field. */
  readonly cells: Map<string, number | null>
}

/** A row for each combination of labels, by the transformations `merge`, `calculateField` and `organize`. */
function paintTable(panel: StoredPanel, results: readonly Result[], { look }: Place): Drawn {
  const organize = panel.transformations?.find(({ id }) => id === 'organize')
  const renamed = organize?.options.renameByName ?? {}
  const keys = Object.keys(renamed).filter((field) => !field.startsWith('Value'))
  const fields = new Map((panel.targets ?? []).map(({ refId }) => [fieldOf(panel, refId), refId]))
  const { sortBy = [] } = (panel.options ?? {}) as { sortBy?: readonly { displayName: string }[] }
  const { indexByName = {} } = (organize?.options ?? {}) as { indexByName?: Record<string, number> }
  const rows = new Map<string, Row>()
  for (const result of results) {
    const labels = keys.map((key) => result.labels[key] ?? '')
    const key = JSON.stringify(labels)
    const row = rows.get(key) ?? { labels, cells: new Map() }
    row.cells.set(fieldOf(panel, result.refId), latest(result))
    rows.set(key, row)
  }
  const write = writerAt(look.now)
  if (rows.size === 0) {
    const { text, color } = { ...seen({ ...panel, type: 'nothing' }, 'A', null, write) }
    return { html: `<div class="nothing" style="color: ${colour(color)}">${escaped(text)}</div>` }
  }
  const labelled = keys.map((key, index) => ({
    place: indexByName[key] ?? index,
    head: `<th>${escaped(renamed[key] ?? key)}</th>`,
    cell: ({ labels }: Row) => `<td>${escaped(labels[index] ?? '')}</td>`,
  }))
  const numbered = [...fields].map(([field, refId], index) => ({
    place: indexByName[field] ?? keys.length + index,
    head: `<th class="number">${escaped(settingsOf(panel, refId).title ?? '')}</th>`,
    cell: ({ cells }: Row) => {
      const { text, color } = seen(panel, refId, cells.get(field) ?? null, write)
      const isFilled = 'custom.cellOptions' in settingsOf(panel, refId) && color !== 'text'
      const style = isFilled ? `background: ${colour(color)}; color: #fff` : `color: ${colour(color)}`
      return `<td class="number" style="${style}">${escaped(text)}</td>`
    },
  }))
  const columns = [...labelled, ...numbered].toSorted((a, b) => a.place - b.place)
  const sorted = [...rows.values()]
  const ranking = [...fields.keys()].find((field) => renamed[field] === sortBy[0]?.displayName)
  const rank = ({ cells }: Row) => cells.get(ranking ?? '') ?? 0
  if (ranking !== undefined) sorted.sort((a, b) => rank(b) - rank(a))
  const head = columns.map((column) => column.head)
  const body = sorted.map((row) => `<tr>${columns.map(({ cell }) => cell(row)).join('')}</tr>`)
  return { html: `<table><thead><tr>${head.join('')}</tr></thead><tbody>${body.join('')}</tbody></table>` }
}

interface LineSettings {
  readonly color?: { readonly mode: string; readonly fixedColor?: string }
  readonly min?: number
  readonly unit?: string
  readonly custom?: {
    readonly fillOpacity?: number
    readonly lineWidth?: number
    readonly stacking?: { readonly mode: string }
  }
}

/** What the overrides say of a line of that name, by regular expression. */
function overridden(panel: StoredPanel, name: string): Record<string, unknown> {
  return Object.fromEntries(
    (panel.fieldConfig?.overrides ?? [])
      .filter(({ matcher: { id, options } }) => id === 'byRegexp' && new RegExp(options.slice(1, -1)).test(name))
      .flatMap(({ properties }) => properties.map(({ id, value }) => [id, value])),
  )
}

function paintLines(panel: StoredPanel, results: readonly Result[], { id, width, height, look, marks }: Place): Drawn {
  const { color, min, unit = 'none', custom = {} } = (panel.fieldConfig?.defaults ?? {}) as LineSettings
  if (results.length === 0) {
    const text = panel.fieldConfig?.defaults.noValue ?? 'No data'
    return { html: `<div class="nothing">${escaped(text)}</div>` }
  }
  const times = [...new Set(results.flatMap(({ points }) => points.map(([time]) => time)))].toSorted((a, b) => a - b)
  const sums = new Map<number, number>()
  const lines = results.map(({ name, points }, index) => {
    const own = overridden(panel, name)
    const fixedColor = (own.color as LineSettings['color'])?.fixedColor
    const isStacked = custom.stacking?.mode === 'normal' && !('custom.stacking' in own)
    const at = new Map(points)
    return {
      name,
      color: fixedColor === undefined ? lineColour(color?.mode ?? '', index, name) : colour(fixedColor),
      isDashed: 'custom.lineStyle' in own,
      isListed: (own['custom.hideFrom'] as { legend?: boolean } | undefined)?.legend !== true,
      width: (own['custom.lineWidth'] as number | undefined) ?? custom.lineWidth ?? 1,
      fill: ((own['custom.fillOpacity'] as number | undefined) ?? custom.fillOpacity ?? 0) / 100,
      values: times.map((time) => {
        const value = at.get(time)
        if (value === undefined || Number.isNaN(value)) return null
        if (!isStacked) return value
        sums.set(time, (sums.get(time) ?? 0) + value)
        return sums.get(time) ?? null
      }),
    }
  })
  const listed = lines.filter(({ isListed }) => isListed)
  const legend = listed.map(
    ({ name, color: of, isDashed }) =>
      `<span><i style="${isDashed ? `border-top: 3px dashed ${of}` : `background: ${of}`}"></i>${escaped(name)}</span>`,
  )
  // About 7 px a character; a third of the panel at most.
  const legendWidth = listed.reduce((sum, { name }) => sum + name.length * 6.3 + 32, 0)
  const legendHeight = Math.min(Math.ceil(legendWidth / width) * 20, Math.floor((height * 0.35) / 20) * 20)
  const chart: Chart = {
    ...{ id, width, height: height - legendHeight - 2, from: look.now - spanOf(look), to: look.now, times, marks },
    ...{ min: min ?? null, unit, lines: lines.map((line) => ({ ...line })) },
  }
  return {
    html: `<div class="plot" id="${id}"></div><div class="legend" style="height: ${legendHeight}px">${legend.join('')}</div>`,
    chart,
  }
}

/** A row for each result; values that follow each other and are the same are one block. */
function paintStates(panel: StoredPanel, results: readonly Result[], { width, height, look, marks }: Place): Drawn {
  if (results.length === 0)
    return { html: `<div class="nothing">${escaped(panel.fieldConfig?.defaults.noValue ?? 'No data')}</div>` }
  const [to, span] = [look.now, spanOf(look)]
  const from = to - span
  const left = Math.min(width * 0.4, Math.max(...results.map(({ name }) => name.length)) * 6.6 + 14)
  const room = width - left - 8
  const x = (time: number) => left + ((Math.max(from, time) - from) / span) * room
  const line = (height - 24) / results.length
  const write = writerAt(look.now)
  const blocks = results.flatMap(({ name, points, refId }, index) => {
    const step = (points[1]?.[0] ?? 0) - (points[0]?.[0] ?? 0)
    const y = index * line
    const parts: string[] = []
    const size = Math.min(12, line * 0.8)
    parts.push(
      `<text x="${left - 8}" y="${y + line / 2 + size * 0.36}" text-anchor="end" font-size="${size}" fill="${theme.text}">${escaped(name)}</text>`,
    )
    let begin = 0
    for (let at = 0; at < points.length; at++) {
      const [time = 0, value] = points[at] ?? []
      const [next, nextValue] = points[at + 1] ?? []
      if (next !== undefined && nextValue === value && next - time <= step) continue
      const { text, color } = seen(panel, refId, value ?? null, write)
      const [start, end] = [
        x(points[begin]?.[0] ?? 0),
        x(Math.min(to, next !== undefined && next - time <= step ? next : time + step)),
      ]
      const fill = color === 'text' ? '#4a4d57' : colour(color)
      parts.push(
        `<rect x="${start.toFixed(1)}" y="${(y + line * 0.075).toFixed(1)}" width="${Math.max(0.6, end - start - 0.5).toFixed(1)}" height="${(line * 0.85).toFixed(1)}" fill="${fill}" fill-opacity="0.8"/>`,
      )
      if (end - start > text.length * 7 + 8)
        parts.push(
          `<text x="${(start + 5).toFixed(1)}" y="${y + line / 2 + size * 0.36}" font-size="${size}" fill="#fff">${escaped(text)}</text>`,
        )
      begin = at + 1
    }
    return parts
  })
  const ticks = Array.from({ length: 7 }, (_, index) => from + (span * (index + 0.5)) / 7).map((time) => {
    const text = new Date(time * 1_000).toISOString()
    return `<text x="${x(time)}" y="${height - 6}" text-anchor="middle" font-size="11" fill="${theme.faint}">${span > 2 * 86_400 ? text.slice(5, 10).replace('-', '/') : text.slice(11, 16)}</text>`
  })
  const drawn = marks.map(
    ({ at, color }) =>
      `<line x1="${x(at)}" x2="${x(at)}" y1="0" y2="${height - 22}" stroke="${colour(color)}" stroke-dasharray="3 3" stroke-opacity="0.6"/>`,
  )
  return { html: `<svg width="${width}" height="${height}">${[...blocks, ...drawn, ...ticks].join('')}</svg>` }
}
