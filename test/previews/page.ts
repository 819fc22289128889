import { readFile } from 'node:fs/promises'
import type { StoredPanel } from '../grafana/shown.ts'
import type { Prometheus } from '../support/prometheus.ts'
import { ask, type Look, marksOf, spanOf } from './asked.ts'
import { type Chart, escaped, painters } from './panels.ts'
import { colour, theme } from './theme.ts'

/** A page that draws itself, with nothing from elsewhere. */
export interface Page {
  readonly html: string
  readonly width: number
  readonly height: number
}

/** Grafana's grid: 30 px a line, 8 px between panels. Below this width each panel has a line to itself. */
const [line, gap, narrow] = [30, 8, 768]
const margin = 12
const top = 76
const bottom = 26
/** Of a panel: its title, and the border around its content. */
const [titleHeight, padding] = [34, 9]

const script = new URL('page.js', import.meta.url)
const uplot = (file: string) => readFile(new URL(`../../node_modules/uplot/dist/${file}`, import.meta.url), 'utf8')

const style = `
* { box-sizing: border-box; margin: 0 }
body { background: ${theme.page}; color: ${theme.text}; font: 13px Inter, sans-serif; overflow: hidden }
header { position: absolute; left: ${margin}px; right: ${margin}px; top: 12px; display: flex; gap: 10px; flex-wrap: wrap; align-items: center }
header b { font-size: 16px; margin-right: auto; width: 100% }
header span { border: 1px solid ${theme.border}; border-radius: 3px; padding: 3px 8px; font-size: 12px; white-space: nowrap }
header i { color: ${theme.faint}; font-style: normal }
header .right { margin-left: auto }
footer { position: absolute; bottom: 6px; left: ${margin}px; right: ${margin}px; text-align: right; color: ${theme.faint}; font-size: 11px }
section { position: absolute; background: ${theme.panel}; border: 1px solid ${theme.border}; border-radius: 3px; overflow: hidden }
section h2 { font-size: 13px; font-weight: 500; padding: 8px 9px; height: ${titleHeight}px; white-space: nowrap; overflow: hidden }
section > div { position: absolute; top: ${titleHeight}px; left: ${padding}px; right: ${padding}px; bottom: ${padding}px; overflow: hidden }
h3 { position: absolute; font-size: 14px; font-weight: 500; padding: 6px 0 }
.tiles { display: grid; gap: 4px; height: 100% }
.tile { border-radius: 3px; display: flex; flex-direction: column; justify-content: center; align-items: center; overflow: hidden; line-height: 1.15; text-align: center }
.tile b { font-weight: 500 } .tile small { font-size: 13px }
table { width: 100%; border-collapse: collapse; font-size: 13px }
th { text-align: left; color: #6e9fff; font-weight: 500; padding: 5px 6px; border-bottom: 1px solid ${theme.border}; white-space: nowrap }
td { padding: 0 6px; height: 28px; border-bottom: 1px solid ${theme.border}; border-right: 1px solid ${theme.border}; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.number { text-align: right }
.nothing { color: ${theme.faint}; display: flex; align-items: center; justify-content: center; height: 100%; font-size: 18px }
.legend { font-size: 11px; line-height: 20px; overflow: hidden } .legend span { margin-right: 14px; white-space: nowrap; display: inline-block } .legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 5px; vertical-align: middle }
`

interface Placed {
  readonly panel: StoredPanel
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

/** Where each panel is, from the upper left corner of the first. */
function placesOf({ dashboard, width }: Look): readonly Placed[] {
  const cell = (width - 2 * margin + gap) / 24
  let y = 0
  return dashboard.panels.map((panel) => {
    const { gridPos } = panel
    if (width >= narrow)
      return {
        panel,
        x: gridPos.x * cell,
        y: gridPos.y * (line + gap),
        width: gridPos.w * cell - gap,
        height: gridPos.h * (line + gap) - gap,
      }
    const height = gridPos.h * (line + gap) - gap
    const placed = { panel, x: 0, y, width: width - 2 * margin, height }
    y += height + gap
    return placed
  })
}

function titleOf({ dashboard, clusters, now }: Look): string {
  const links = ['Overview', 'Backups', 'WAL and recovery point', 'Verification', 'Sidecar and jobs']
  const hours = spanOf({ dashboard } as Look) / 3_600
  const moment = new Date(now * 1_000).toISOString().slice(0, 16).replace('T', ' ')
  return `<header><b>${escaped(dashboard.title)}</b><span><i>Data source</i> Prometheus</span><span><i>Cluster</i> ${escaped(clusters === '.*' ? 'All' : clusters)}</span><span class="right"><i>Last ${hours > 48 ? `${hours / 24} days` : `${hours} hours`}, until</i> ${moment} UTC</span><span>↗ ${links.length} dashboards</span></header>`
}

/** The dashboard as a page. A kind of panel that nobody can draw throws. */
export async function pageOf(prometheus: Prometheus, look: Look): Promise<Page> {
  const marks = await marksOf(prometheus, look)
  const charts: Chart[] = []
  const places = placesOf(look)
  const isNarrow = look.width < narrow
  const above = isNarrow ? top + 26 : top
  const boxes = places.map(async ({ panel, x, y, width, height }) => {
    const at = `left: ${(margin + x).toFixed(1)}px; top: ${(above + y).toFixed(1)}px; width: ${width.toFixed(1)}px`
    if (panel.type === 'row') return `<h3 style="${at}">⌄ ${escaped(panel.title)}</h3>`
    const paint = painters[panel.type]
    if (paint === undefined) throw new Error(`${panel.title}: the previews cannot draw a ${panel.type}`)
    const inner = { width: Math.floor(width - 2 * padding - 2), height: Math.floor(height - titleHeight - padding - 2) }
    const results = await ask(prometheus, panel, look)
    const { html, chart } = paint(panel, results, { ...inner, id: `panel-${panel.id}`, look, marks })
    if (chart !== undefined) charts.push(chart)
    return `<section style="${at}; height: ${height.toFixed(1)}px" data-kind="${panel.type}"><h2>${escaped(panel.title)}</h2><div>${html}</div></section>`
  })
  const body = (await Promise.all(boxes)).join('\n')
  const named = Object.fromEntries(['blue', 'red', 'orange'].map((name) => [name, colour(name)]))
  const data = JSON.stringify({ charts, theme: { ...theme, named } }).replaceAll('<', '\\u003c')
  const height = above + Math.max(...places.map((place) => place.y + place.height)) + bottom
  const html = `<!doctype html><meta charset="utf-8"><style>${await uplot('uPlot.min.css')}${style}</style>
<body>${titleOf(look)}${body}<footer>A preview, drawn by our preview renderer, not by Grafana</footer>
<script>${await uplot('uPlot.iife.min.js')}</script><script>window.preview = ${data}</script><script>${await readFile(script, 'utf8')}</script>`
  return { html, width: look.width, height: Math.ceil(height) }
}
