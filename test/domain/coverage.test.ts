import { deepStrictEqual } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { WalCoverage, type WalGap } from '../../src/domain/coverage.ts'
import { type AcknowledgedHole, judgeGaps } from '../../src/domain/holes.ts'
import { formatLsn, parseLsn } from '../../src/domain/lsn.ts'
import { parseHistory, type TimelineHistory, Timelines } from '../../src/domain/timeline.ts'
import { parseWalName } from '../../src/domain/wal.ts'

const size = 16 * 1024 * 1024
const lsn = (text: string) => parseLsn(text) as bigint

/** What lists of names hold, in short: `1/3` is segment 3 of timeline 1, `1/3.p` a partial of it, `1/3.p3000060` one with an end. */
function holding(names: string, histories: readonly TimelineHistory[] = []): WalCoverage {
  const coverage = new WalCoverage(size, new Timelines(histories))
  for (const name of names.split(' ').filter(Boolean)) {
    const [, timeline = '', segment = '', partial, end] = /^(.)\/(.)(\.p)?(.+)?$/.exec(name) ?? []
    const suffix = partial && `.partial${end === undefined ? '' : `.${end.padStart(16, '0')}`}`
    const file = parseWalName(`${timeline.padStart(8, '0')}${segment.padStart(16, '0')}${suffix ?? ''}`, size)
    if (file === null) throw new Error(name)
    coverage.add(file)
    coverage.add(file) // a listing may name it twice
  }
  return coverage
}

const from = (timeline: number, place: string, target?: number) => ({
  from: { timeline, lsn: lsn(place) },
  ...(target === undefined ? {} : { target }),
})
const end = (coverage: WalCoverage, ...args: Parameters<typeof from>) => {
  const reach = coverage.reach(from(...args))
  return reach && `${reach.end.timeline} ${formatLsn(reach.end.lsn)}`
}
const gaps = (coverage: WalCoverage, ...args: Parameters<typeof from>) => [...coverage.gaps(from(...args))]
const ranges = (coverage: WalCoverage, target: number) =>
  [...coverage.ranges(target)].map(
    ({ from, to }) => `${from.timeline} ${formatLsn(from.lsn)} - ${to.timeline} ${formatLsn(to.lsn)}`,
  )

t.test('one timeline', async (t) => {
  const whole = holding('1/1 1/2 1/3')
  t.equal(end(whole, 1, '0/1000028'), '1 0/4000000')
  t.equal(end(whole, 1, '0/3FFFFFF'), '1 0/4000000')
  t.equal(end(whole, 1, '0/4000000'), '1 0/4000000', 'at its end')
  t.equal(end(whole, 1, '0/9000028'), '1 0/9000028', 'what is to come')
  t.same(gaps(whole, 1, '0/1000028'), [], 'is no gap')
  t.same(gaps(whole, 1, '0/9000028'), [])
  t.match(whole.reach(from(1, '0/1000028')), { target: 1, next: { timeline: 1, segment: 4 } })
  const holed = holding('1/2 1/5 1/7')
  t.equal(end(holed, 1, '0/2000028'), '1 0/3000000')
  t.same(gaps(holed, 1, '0/2000028'), [
    { timeline: 1, first: 3, last: 4 },
    { timeline: 1, first: 6, last: 6 },
  ])
  t.same(gaps(holed, 1, '0/4000000')[0], { timeline: 1, first: 4, last: 4 }, 'inside the window only')
  t.same(ranges(holed, 1), ['1 0/2000000 - 1 0/3000000', '1 0/5000000 - 1 0/6000000', '1 0/7000000 - 1 0/8000000'])
  t.same(
    [...holed.gaps({ ...from(1, '0/5000000'), until: lsn('0/A000000') })],
    [
      { timeline: 1, first: 6, last: 6 },
      { timeline: 1, first: 8, last: 9 },
    ],
    'what the server has archived should be there',
  )
  t.same(
    [...holed.gaps({ ...from(1, '0/2000028'), pending: holding('1/4 1/6 1/8') })],
    [{ timeline: 1, first: 3, last: 3 }],
  )
  t.equal(end(holding(''), 1, '0/1000028'), '1 0/1000028')
  t.same(ranges(holding(''), 1), [])
  t.equal(holed.size, 3)
})

t.test('partials', async (t) => {
  const streamed = holding('1/1 1/2.p2000060 1/2.p2000100 1/2.p2000080')
  t.equal(end(streamed, 1, '0/1000028'), '1 0/2000100')
  t.same(gaps(streamed, 1, '0/1000028'), [])
  t.same(ranges(streamed, 1), ['1 0/1000000 - 1 0/2000100'])
  streamed.remove({ kind: 'partial', timeline: 1, segment: 2, end: lsn('0/2000100') })
  t.equal(end(streamed, 1, '0/1000028'), '1 0/2000080', 'the next longest')
  t.equal(end(holding('1/1 1/2.p'), 1, '0/1000028'), '1 0/2000000', 'of unknown length it does not count')
  t.same(gaps(holding('1/1 1/3.p3000060'), 1, '0/1000028'), [{ timeline: 1, first: 2, last: 2 }])
  t.equal(end(holding('1/1 1/2.p2000060 1/2'), 1, '0/1000028'), '1 0/3000000', 'superseded')
  t.same(gaps(holding('1/2.p2000060 1/3'), 1, '0/2000028'), [{ timeline: 1, first: 2, last: 2 }], 'never superseded')
})

const second = parseHistory(2, '1\t0/3000148\tx\n')
const third = parseHistory(3, '1\t0/3000148\tx\n\n2\t0/5000000\tx\n')

t.test('a fork inside a segment', async (t) => {
  // What an archive holds after a promotion: segment 3 on the new timeline alone.
  const promoted = holding('1/1 1/2 1/3.p 2/3 2/4', [second])
  t.equal(end(promoted, 1, '0/1000028'), '2 0/5000000')
  t.same(gaps(promoted, 1, '0/1000028'), [])
  t.same(ranges(promoted, 2), ['1 0/1000000 - 2 0/5000000'])
  t.equal(end(promoted, 1, '0/1000028', 1), '1 0/3000000', 'to the old timeline')
  t.equal(end(promoted, 1, '0/3000148', 2), null, 'behind the fork there is no way')
  t.same([...promoted.gaps(from(1, '0/3000148', 2))], [])
  t.equal(end(promoted, 2, '0/3000147'), null, 'nor back')
  t.equal(end(promoted, 2, '0/3000148'), '2 0/5000000')
  // The new timeline's first segment is yet to come: the old one's helps up to the fork.
  const both = holding('1/1 1/2 1/3 1/4 1/5', [second])
  t.equal(end(both, 1, '0/1000028'), '1 0/3000148')
  t.match(both.reach(from(1, '0/1000028')), { target: 2, next: { timeline: 2, segment: 3 } })
  t.same(gaps(both, 1, '0/1000028'), [], 'it is no gap')
  t.same(ranges(both, 2), ['1 0/1000000 - 1 0/3000148'])
  t.equal(end(both, 1, '0/1000028', 1), '1 0/6000000', 'the old one may have gone on')
  t.equal(end(both, 1, '0/4000000'), '1 0/6000000', 'and whoever is behind the fork stays on it')
  const late = holding('1/1 1/2 1/3 2/4', [second])
  t.same(gaps(late, 1, '0/1000028'), [{ timeline: 2, first: 3, last: 3 }], 'the old one does not replace the new one')
  t.same(ranges(late, 2), ['1 0/1000000 - 1 0/3000148', '2 0/4000000 - 2 0/5000000'])
  t.same(gaps(holding('1/1 2/4', [second]), 1, '0/1000028'), [
    { timeline: 1, first: 2, last: 2 },
    { timeline: 2, first: 3, last: 3 },
  ])
  t.equal(end(holding('1/1 1/2 1/3.p3000100', [second]), 1, '0/1000028'), '1 0/3000100')
  t.equal(end(holding('1/1 1/2 1/3.p3000200', [second]), 1, '0/1000028'), '1 0/3000148', 'not beyond the fork')
  t.equal(end(holding('1/1 1/2 1/3 2/3.p3000200', [second]), 1, '0/1000028'), '2 0/3000200')
})

t.test('a fork between two segments, and a history that is missing', async (t) => {
  const forked = holding('1/1 1/2 2/3 2/4 3/5 3/6 2/5', [second, third])
  t.equal(end(forked, 1, '0/1000028'), '3 0/7000000')
  t.same(ranges(forked, 3), ['1 0/1000000 - 3 0/7000000'])
  t.equal(end(forked, 1, '0/1000028', 2), '2 0/6000000')
  forked.timelines.remove(3)
  t.equal(end(forked, 1, '0/1000028'), '2 0/6000000')
  t.equal(end(forked, 1, '0/1000028', 3), null, 'the way is not known')
  t.equal(end(forked, 3, '0/5000028', 3), '3 0/7000000', 'on the timeline itself it is')
  forked.remove({ kind: 'segment', timeline: 2, segment: 4 })
  t.equal(end(forked, 1, '0/1000028'), '2 0/4000000')
  t.same(gaps(forked, 1, '0/1000028'), [{ timeline: 2, first: 4, last: 4 }])
})

t.test('two forks in one segment', async (t) => {
  const twice = parseHistory(3, '1\t0/3000148\tx\n2\t0/3000200\tx\n')
  t.equal(end(holding('1/1 1/2 3/3 3/4', [second, twice]), 1, '0/1000028'), '3 0/5000000')
  t.equal(end(holding('1/1 1/2 1/3 2/3 3/4', [second, twice]), 1, '0/1000028'), '2 0/3000200')
  t.equal(end(holding('1/1 1/2 1/3 3/4', [second, twice]), 1, '0/1000028'), '1 0/3000148')
})

t.test('a foreign file far away costs nothing', async (t) => {
  const coverage = holding('1/1')
  coverage.add({ kind: 'segment', timeline: 1, segment: 2 ** 40 })
  t.same(gaps(coverage, 1, '0/1000028'), [{ timeline: 1, first: 2, last: 2 ** 40 - 1 }])
})

t.test('a million segments', async (t) => {
  const coverage = new WalCoverage(size, new Timelines([second]))
  for (let segment = 4; segment < 1_000_004; segment++)
    if (segment % 1000 !== 999) coverage.add({ kind: 'segment', timeline: 2, segment })
  t.equal(coverage.size, 999_000)
  t.equal(gaps(coverage, 2, '0/4000000').length, 1000)
  t.equal(ranges(coverage, 2).length, 1001)
  for (let segment = 999; segment < 1_000_004; segment += 1000) coverage.add({ kind: 'segment', timeline: 2, segment })
  t.match(coverage.reach(from(2, '0/4000000')), { next: { segment: 1_000_004 } })
})

t.test('holes that are known of', async (t) => {
  const now = new Date('2026-06-01T00:00:00Z')
  const hole = (first: number, last: number, more: Partial<AcknowledgedHole> = {}): AcknowledgedHole => ({
    timeline: 1,
    first,
    last,
    reason: 'disk lost',
    until: new Date(now.getTime() + 1),
    ...more,
  })
  const judged = (gaps: readonly WalGap[], ...holes: AcknowledgedHole[]) =>
    [...judgeGaps(gaps, holes, now)].map((gap) => [
      gap.first,
      gap.last,
      gap.acknowledged && holes.indexOf(gap.acknowledged),
    ])
  const gap = { timeline: 1, first: 10, last: 20 }
  t.same(judged([gap]), [[10, 20, null]])
  t.same(judged([gap], hole(10, 20)), [[10, 20, 0]])
  t.same(judged([gap], hole(0, 99)), [[10, 20, 0]])
  t.same(judged([gap], hole(12, 14), hole(15, 15), hole(19, 30)), [
    [10, 11, null],
    [12, 14, 0],
    [15, 15, 1],
    [16, 18, null],
    [19, 20, 2],
  ])
  t.same(judged([gap], hole(10, 12), hole(10, 15), hole(14, 16)), [
    [10, 15, 1],
    [16, 16, 2],
    [17, 20, null],
  ])
  t.same(judged([gap], hole(10, 20, { until: now })), [[10, 20, null]], 'its time is over')
  t.same(judged([gap], hole(10, 20, { timeline: 2 })), [[10, 20, null]])
  t.same(judged([gap], hole(0, 9), hole(21, 30)), [[10, 20, null]])
})

// --- The same once more, slowly: a quarter of a segment at a time.

const unitsPerSegment = 4
const unit = BigInt(size / unitsPerSegment)
const horizon = 60
const segmentOf = (at: number) => Math.floor(at / unitsPerSegment)
const units = fc.nat({ max: 40 })

const worlds = fc.record({
  forks: fc.array(fc.record({ parent: fc.nat(), at: fc.nat() }), { maxLength: 4 }),
  // Mostly there: the longest ways are the most interesting.
  whole: fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.nat({ max: 11 }), fc.nat({ max: 6 })), { maxLength: 10 }),
  lost: fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.nat({ max: 11 })), { maxLength: 3 }),
  partials: fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), units), { maxLength: 4 }),
  start: units,
  startOn: fc.integer({ min: 1, max: 5 }),
  target: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
  until: fc.option(units, { nil: undefined }),
  pending: fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.nat({ max: 11 })), { maxLength: 2 }),
})

interface Step {
  readonly timeline: number
  readonly begin: number
  readonly end: number
}

t.test('whatever there is', async (t) => {
  fc.assert(
    fc.property(worlds, (world) => {
      // The tree: each timeline leaves its parent at or after the place where that began.
      const ways: Step[][] = [[], [{ timeline: 1, begin: 0, end: Number.POSITIVE_INFINITY }]]
      for (const { parent, at } of world.forks) {
        const way = ways[1 + (parent % (ways.length - 1))] as Step[]
        const own = way.at(-1) as Step
        const fork = Math.max(own.begin, 1) + (at % 16)
        ways.push([
          ...way.slice(0, -1),
          { ...own, end: fork },
          { timeline: ways.length, begin: fork, end: Number.POSITIVE_INFINITY },
        ])
      }
      const histories = ways.slice(2).map((way, index) => ({
        timeline: index + 2,
        switches: way.slice(0, -1).map(({ timeline, end }) => ({ timeline, lsn: BigInt(end) * unit, reason: '' })),
      }))
      const wayTo = (timeline: number): Step[] =>
        ways[timeline] ?? [{ timeline, begin: 0, end: Number.POSITIVE_INFINITY }]

      const coverage = new WalCoverage(size, new Timelines(histories))
      const whole = new Set<string>()
      for (const [timeline, first, length] of world.whole) {
        for (let segment = first; segment <= first + length; segment++) {
          whole.add(`${timeline}/${segment}`)
          coverage.add({ kind: 'segment', timeline, segment })
        }
      }
      for (const [timeline, segment] of world.lost) {
        whole.delete(`${timeline}/${segment}`)
        coverage.remove({ kind: 'segment', timeline, segment })
      }
      const partials = world.partials.filter(([, end]) => end % unitsPerSegment !== 0)
      for (const [timeline, end] of partials)
        coverage.add({ kind: 'partial', timeline, segment: segmentOf(end), end: BigInt(end) * unit })
      const pending = new WalCoverage(size, coverage.timelines)
      for (const [timeline, segment] of world.pending) pending.add({ kind: 'segment', timeline, segment })

      const holds = (timeline: number, at: number) =>
        whole.has(`${timeline}/${segmentOf(at)}`) ||
        partials.some(([on, end]) => on === timeline && segmentOf(end) === segmentOf(at) && at < end)
      const isCovered = (way: Step[], at: number) =>
        way.some(({ timeline, begin, end }) => segmentOf(begin) <= segmentOf(at) && at < end && holds(timeline, at))
      const timelineOf = (way: Step[], at: number) => way.find(({ begin, end }) => begin <= at && at < end)?.timeline

      const { start, startOn } = world
      const reachable = ways.flatMap((way, timeline) => (timelineOf(way, start) === startOn ? [timeline] : []))
      const target = world.target ?? Math.max(startOn, ...reachable)
      const route = { from: { timeline: startOn, lsn: BigInt(start) * unit }, ...(world.target ? { target } : {}) }
      const way = wayTo(target)
      const reach = coverage.reach(route)
      const until = world.until === undefined ? {} : { until: BigInt(world.until) * unit }
      const found = [...coverage.gaps({ ...route, ...until, pending })].flatMap(({ timeline, first, last }) =>
        Array.from({ length: last - first + 1 }, (_, index) => `${timeline}/${first + index}`),
      )
      if (timelineOf(way, start) !== startOn) {
        deepStrictEqual([reach, found], [null, []])
        return
      }

      let end = start
      while (isCovered(way, end)) end++
      deepStrictEqual(reach?.target, target)
      deepStrictEqual(reach?.end, {
        timeline: end === start ? startOn : timelineOf(way, end - 1),
        lsn: BigInt(end) * unit,
      })

      const owner = (segment: number) => way.findLast(({ begin }) => segmentOf(begin) <= segment)?.timeline
      deepStrictEqual(reach?.next, { timeline: owner(segmentOf(end)), segment: segmentOf(end) })
      const there = way.flatMap(({ timeline, begin, end }) =>
        Array.from({ length: horizon }, (_, segment) => segment).filter(
          (segment) =>
            segmentOf(begin) <= segment &&
            segment * unitsPerSegment < end &&
            (whole.has(`${timeline}/${segment}`) ||
              partials.some(([on, at]) => on === timeline && segmentOf(at) === segment)),
        ),
      )
      const missing: string[] = []
      for (let segment = segmentOf(start); segment < horizon; segment++) {
        const key = `${owner(segment)}/${segment}`
        const isDue =
          there.some((later) => later > segment) ||
          (world.until !== undefined && segment * unitsPerSegment < world.until)
        const isPending = world.pending.some(([timeline, pending]) => `${timeline}/${pending}` === key)
        if (isDue && !isPending && !whole.has(key)) missing.push(key)
      }
      deepStrictEqual(found, missing)

      const runs: { from: number; to: number }[] = []
      for (let at = 0; at < horizon * unitsPerSegment; at++) {
        if (!isCovered(way, at)) continue
        const last = runs.at(-1)
        if (last?.to === at) last.to = at + 1
        else runs.push({ from: at, to: at + 1 })
      }
      deepStrictEqual(
        [...coverage.ranges(target)],
        runs.map(({ from, to }) => ({
          from: { timeline: timelineOf(way, from), lsn: BigInt(from) * unit },
          to: { timeline: timelineOf(way, to - 1), lsn: BigInt(to) * unit },
        })),
      )
    }),
    { numRuns: 5000 },
  )
  t.pass()
})
