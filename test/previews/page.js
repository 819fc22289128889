/* global document, uPlot, window */
// Runs in the page: draws the charts that it was given, with uPlot, and says of each how many points it has coloured.
const day = 86_400
const { charts, theme } = window.preview

/** Texts of an axis in the unit of its largest value, so that its ticks can be compared. */
const units = {
  s: [
    [1, ' s'],
    [60, ' mins'],
    [3_600, ' hours'],
    [day, ' days'],
    [7 * day, ' weeks'],
  ],
  bytes: [
    [1, ' B'],
    [1_024, ' KiB'],
    [1_024 ** 2, ' MiB'],
    [1_024 ** 3, ' GiB'],
    [1_024 ** 4, ' TiB'],
  ],
  percentunit: [[0.01, '%']],
  cps: [[1, ' c/s']],
  reqps: [[1, ' req/s']],
  short: [
    [1, ''],
    [1_000, ' K'],
  ],
  none: [[1, '']],
}

/** Ticks at round values of the unit: minutes and hours are not decimal. */
function splitsOf(unit, least, most, room) {
  const steps = units[unit] ?? [[1, '']]
  const [size] = steps.findLast(([from]) => most >= from) ?? steps[0]
  const rough = (most - least) / size / Math.max(2, Math.floor(room / 32))
  const power = 10 ** Math.floor(Math.log10(rough))
  const round = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough) * size
  const ticks = []
  for (let tick = Math.ceil(least / round) * round; tick <= most * 1.0001; tick += round) ticks.push(tick)
  return ticks
}

function textsOf(unit, ticks) {
  const steps = units[unit] ?? [[1, '']]
  const most = Math.max(...ticks.map(Math.abs))
  const [size, name] = steps.findLast(([from]) => most >= from) ?? steps[0]
  return ticks.map((tick) => `${Number((tick / size).toPrecision(6))}${name}`)
}

function timesOf(from, to, width) {
  const rough = (to - from) / Math.max(2, Math.floor(width / 80))
  const step = [
    300,
    600,
    1_800,
    3_600,
    7_200,
    10_800,
    14_400,
    21_600,
    43_200,
    day,
    2 * day,
    3 * day,
    5 * day,
    7 * day,
  ].find((one) => one >= rough)
  const ticks = []
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) ticks.push(tick)
  return ticks.map((tick) => ({
    tick,
    text:
      step >= 43_200
        ? new Date(tick * 1_000).toISOString().slice(5, 10).replace('-', '/')
        : new Date(tick * 1_000).toISOString().slice(11, 16),
  }))
}

for (const chart of charts) {
  const place = document.getElementById(chart.id)
  const axis = {
    stroke: theme.text,
    font: '11px Inter, sans-serif',
    grid: { stroke: theme.grid, width: 1 },
    ticks: { show: false },
  }
  const largest = Math.max(0, ...chart.lines.flatMap(({ values }) => values.filter((value) => value !== null)))
  const high = largest === 0 ? 1 : largest * 1.06
  const low = chart.min ?? Math.min(0, ...chart.lines.flatMap(({ values }) => values.filter((value) => value !== null)))
  const labels = textsOf(chart.unit, splitsOf(chart.unit, low, high, chart.height - 30))
  const plot = new uPlot(
    {
      width: chart.width,
      height: chart.height,
      legend: { show: false },
      cursor: { show: false },
      pxAlign: 0,
      scales: { x: { time: true, range: [chart.from, chart.to] }, y: { range: [low, high] } },
      axes: [
        {
          ...axis,
          size: 24,
          splits: () => timesOf(chart.from, chart.to, chart.width).map(({ tick }) => tick),
          values: () => timesOf(chart.from, chart.to, chart.width).map(({ text }) => text),
        },
        {
          ...axis,
          size: 16 + 6.4 * Math.max(...labels.map((label) => label.length)),
          splits: (_, __, least, most) => splitsOf(chart.unit, least, most, chart.height - 30),
          values: (_, ticks) => textsOf(chart.unit, ticks),
        },
      ],
      series: [
        {},
        ...chart.lines.map(({ color, isDashed, width, fill }) => ({
          stroke: color,
          width: width * 0.75,
          ...(isDashed ? { dash: [8, 6] } : {}),
          ...(fill === 0
            ? {}
            : {
                fill: `${color}${Math.round(fill * 255)
                  .toString(16)
                  .padStart(2, '0')}`,
              }),
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: {
        drawClear: [
          (self) => {
            const { ctx, bbox } = self
            for (const { at, color } of chart.marks) {
              const x = self.valToPos(at, 'x', true)
              ctx.save()
              ctx.strokeStyle = theme.named[color]
              ctx.globalAlpha = 0.45
              ctx.setLineDash([3, 3])
              ctx.beginPath()
              ctx.moveTo(x, bbox.top)
              ctx.lineTo(x, bbox.top + bbox.height)
              ctx.stroke()
              ctx.globalAlpha = 1
              ctx.fillStyle = theme.named[color]
              ctx.setLineDash([])
              ctx.beginPath()
              ctx.moveTo(x - 4, bbox.top + bbox.height + 4)
              ctx.lineTo(x + 4, bbox.top + bbox.height + 4)
              ctx.lineTo(x, bbox.top + bbox.height - 1)
              ctx.fill()
              ctx.restore()
            }
          },
        ],
        draw: [
          (self) => {
            const { data } = self.ctx.getImageData(0, 0, self.ctx.canvas.width, self.ctx.canvas.height)
            let coloured = 0
            for (let at = 3; at < data.length; at += 4) if (data[at] > 0) coloured++
            place.dataset.coloured = String(coloured)
          },
        ],
      },
    },
    [chart.times, ...chart.lines.map(({ values }) => values)],
    place,
  )
  void plot
}
document.body.dataset.charts = String(charts.length)
