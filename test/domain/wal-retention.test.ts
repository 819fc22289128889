import { deepStrictEqual, ok } from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { parseLsn } from '../../src/domain/lsn.ts'
import { type TimelineHistory, type TimelineSwitch, Timelines } from '../../src/domain/timeline.ts'
import { firstLsn, parseWalName, segmentAt, walName } from '../../src/domain/wal.ts'
import {
  type StoredWalFile,
  WalRetention,
  type WalRetentionInput,
  type WalVerdict,
} from '../../src/domain/wal-retention.ts'

const size = 16 * 1024 * 1024
const dayMs = 86_400_000
const now = new Date('2026-06-15T05:00:00Z')
const daysAgo = (days: number) => new Date(now.getTime() - days * dayMs)
const lsn = (text: string) => parseLsn(text) as bigint

const history = (timeline: number, ...switches: [number, string][]): TimelineHistory => ({
  timeline,
  switches: switches.map(([from, place]) => ({ timeline: from, lsn: lsn(place), reason: '' })),
})

/** A file as `1/3`, segment 3 of timeline 1, `1/3.p` or `1/3.p3000060`; stored so many days ago. */
function file(short: string, days: number): StoredWalFile {
  const [, timeline = '', segment = '', partial, end] = /^(.)\/(\w+)(\.p)?(.+)?$/.exec(short) ?? []
  const suffix = partial && `.partial${end === undefined ? '' : `.${end.padStart(16, '0')}`}`
  return { name: `${timeline.padStart(8, '0')}${segment.padStart(16, '0')}${suffix ?? ''}`, storedAt: daysAgo(days) }
}

/** Judges files, given in order, timeline by timeline. */
function judge(files: readonly StoredWalFile[], input: Partial<WalRetentionInput> = {}): WalVerdict<StoredWalFile>[] {
  const retention = new WalRetention({
    timelines: new Timelines(),
    segmentSize: size,
    backups: [],
    makingSince: null,
    keepForSeconds: 30 * 86_400,
    now,
    ...input,
  })
  const timelines = [...new Set(files.map(({ name }) => timelineOf(name)))].sort((a, b) => a - b)
  return timelines.flatMap((timeline) => {
    const one = retention.timeline<StoredWalFile>(timeline)
    const own = files.filter(({ name }) => timelineOf(name) === timeline)
    return [...own.flatMap((each) => one.next(each)), ...one.end()]
  })
}

const timelineOf = (name: string) => Number.parseInt(name.slice(0, 8), 16)

/** What became of all, in short. */
const told = (verdicts: readonly WalVerdict<StoredWalFile>[]) =>
  verdicts.map(({ file: { name }, keep, reason, backupId }) => {
    const short = `${timelineOf(name)}/${name.slice(8, 24).replace(/^0+/, '')}${name.length > 24 ? '.p' : ''}`
    return `${short} ${keep ? 'stays' : 'goes'}: ${reason}${backupId === null ? '' : ` ${backupId}`}`
  })

const old = (...names: string[]) => names.map((name) => file(name, 40))

t.test('without a backup the window alone, and the newest', async (t) => {
  t.same(told(judge([...old('1/1', '1/2', '1/3'), file('1/4', 29), file('1/5', 1)])), [
    '1/1 goes: expired',
    '1/2 goes: expired',
    '1/3 goes: expired',
    '1/4 stays: window',
    '1/5 stays: window',
  ])
  t.same(told(judge(old('1/1', '1/2'))), ['1/1 goes: expired', '1/2 stays: newest'])
  t.same(told(judge([file('1/1', 30), file('1/2', 30.001), file('1/3', 0)]))[0], '1/1 stays: window', 'to the second')
  t.same(
    told(judge([file('1/1', 40), file('1/2', 1), file('1/3', 40), file('1/4', 40)])),
    ['1/1 goes: expired', '1/2 stays: window', '1/3 stays: window', '1/4 stays: window'],
    'one that was stored late keeps all after it',
  )
  t.same(told(judge([file('1/1', -400), ...old('1/2')]))[0], '1/1 stays: window', 'dated into the future')
  const dateless = { ...file('1/1', 1), storedAt: new Date(Number.NaN) }
  t.same(told(judge([dateless, ...old('1/2')])), ['1/1 stays: window', '1/2 stays: window'])
})

t.test('from the start of the oldest backup on', async (t) => {
  const backups = [
    { id: 'b', timeline: 1, lsn: lsn('0/4000028') },
    { id: 'a', timeline: 1, lsn: lsn('0/3FFFFFF') },
  ]
  t.same(told(judge(old('1/1', '1/2', '1/3', '1/4'), { backups })), [
    '1/1 goes: expired',
    '1/2 goes: expired',
    '1/3 stays: backup a',
    '1/4 stays: backup a',
  ])
  t.same(told(judge([...old('1/1'), file('1/2', 3), ...old('1/3')], { backups })), [
    '1/1 goes: expired',
    '1/2 stays: window',
    '1/3 stays: backup a',
  ])
  const far = [{ id: 'a', timeline: 1, lsn: lsn('1/5000028') }]
  t.same(
    told(judge(old('1/FE', '1/100000001', '1/100000005'), { backups: far, segmentSize: null })),
    ['1/FE goes: expired', '1/100000001 stays: backup a', '1/100000005 stays: backup a'],
    'of an unknown segment size: from the log on',
  )
  t.same(told(judge(old('1/FE', '1/100000001', '1/100000005'), { backups: far })).slice(0, 2), [
    '1/FE goes: expired',
    '1/100000001 goes: expired',
  ])
})

t.test('while a physical backup is being made', async (t) => {
  const files = [file('1/1', 4), file('1/2', 2.5), file('1/3', 2), file('1/4', 0)]
  t.same(told(judge(files, { keepForSeconds: 86_400, makingSince: daysAgo(3) })), [
    '1/1 goes: expired',
    '1/2 stays: making',
    '1/3 stays: making',
    '1/4 stays: making',
  ])
})

t.test('timelines that fork', async (t) => {
  // 1 was left for 2 and, from further on, for 3; 3 was left for 4.
  const histories = [
    history(2, [1, '0/3000100']),
    history(3, [1, '0/5000100']),
    history(4, [1, '0/5000100'], [3, '0/7000100']),
  ]
  const files = old('1/1', '1/2', '1/3', '1/4', '1/5', '2/3', '2/4', '2/5', '3/5', '3/6', '3/7', '4/7', '4/8', '4/9')
  const stay = (start: [number, string], known = histories) =>
    judge(files, {
      timelines: new Timelines(known),
      backups: [{ id: 'b', timeline: start[0], lsn: lsn(start[1]) }],
    })
      .filter(({ reason }) => reason === 'backup')
      .map(({ file: { name } }) => `${timelineOf(name)}/${name.slice(-1)}`)
      .join(' ')
  t.equal(stay([1, '0/2000028']), '1/2 1/3 1/4 1/5 2/3 2/4 2/5 3/5 3/6 3/7 4/7 4/8 4/9')
  t.equal(stay([1, '0/4000028']), '1/4 1/5 3/5 3/6 3/7 4/7 4/8 4/9', '2 was left behind')
  t.equal(stay([3, '0/6000028']), '3/6 3/7 4/7 4/8 4/9')
  t.equal(stay([3, '0/4000028']), '1/4 1/5 3/5 3/6 3/7 4/7 4/8 4/9', 'it began before its timeline did')
  t.equal(stay([4, '0/8000028']), '4/8 4/9')
  t.equal(stay([2, '0/4000028']), '2/4 2/5')
  t.equal(
    stay([2, '0/4000028'], []),
    '1/4 1/5 2/4 2/5 3/5 3/6 3/7 4/7 4/8 4/9',
    'without histories: whatever is behind',
  )
  t.equal(stay([1, '0/4000028'], histories.slice(1)), '1/4 1/5 2/4 2/5 3/5 3/6 3/7 4/7 4/8 4/9', 'one is missing')
  t.same(
    told(judge([...old('1/1'), file('1/2', 1), ...old('2/3', '2/4')], { timelines: new Timelines(histories) })),
    ['1/1 goes: expired', '1/2 stays: window', '2/3 stays: window', '2/4 stays: window'],
    'what the window keeps leads on',
  )
})

t.test('parts of segments', async (t) => {
  const files = old('1/1', '1/2.p2000060', '1/2.p', '1/3', '1/3.p3000060', '1/3.p')
  t.same(told(judge(files)), [
    '1/1 goes: expired',
    '1/2.p goes: expired',
    '1/2.p goes: expired',
    '1/3.p goes: superseded',
    '1/3 stays: newest',
    '1/3.p stays: newest',
  ])
  t.same(
    told(judge([file('1/3', 1), file('1/3.p3000060', 1)])),
    ['1/3 stays: window', '1/3.p goes: superseded'],
    'at once',
  )
  t.same(
    told(judge([file('1/3', 1), file('1/3', 1), file('1/3.p3000060', 1)])).at(-1),
    '1/3.p stays: window',
    'of which of the two is it a part?',
  )
  t.same(
    judge([
      { name: '00000002.history', storedAt: daysAgo(99) },
      { name: 'x', storedAt: daysAgo(99) },
    ]),
    [],
  )
  t.same(judge([{ name: `00000001${'F'.repeat(16)}`, storedAt: daysAgo(99) }]), [], 'no size has such a segment')
})

t.test('a million segments, of which a handful is in hand at any time', async (t) => {
  const retention = new WalRetention({
    timelines: new Timelines(),
    segmentSize: size,
    backups: [{ id: 'b', timeline: 1, lsn: firstLsn(900_000, size) }],
    makingSince: null,
    keepForSeconds: 30 * 86_400,
    now,
  })
  const one = retention.timeline<StoredWalFile>(1)
  const storedAt = daysAgo(40)
  let [given, told, gone, most] = [0, 0, 0, 0]
  for (let segment = 0; segment < 1_000_000; segment += 1) {
    given += 1
    for (const { keep } of one.next({ name: walName({ kind: 'segment', timeline: 1, segment }, size), storedAt })) {
      told += 1
      if (!keep) gone += 1
    }
    most = Math.max(most, given - told)
  }
  t.same([gone, most, one.end()], [900_000, 1, []])
})

/** A tree of timelines, what is stored of them, and backups of it. */
const world = fc
  .record({
    forks: fc.array(fc.record({ parent: fc.nat(), at: fc.nat() }), { maxLength: 4 }),
    hidden: fc.uniqueArray(fc.integer({ min: 2, max: 5 }), { maxLength: 1 }),
    missing: fc.array(fc.tuple(fc.nat(4), fc.nat(14)), { maxLength: 4 }),
    partials: fc.array(fc.tuple(fc.nat(4), fc.nat(14), fc.integer({ min: 1, max: size - 1 })), { maxLength: 4 }),
    late: fc.array(fc.tuple(fc.nat(4), fc.nat(14)), { maxLength: 2 }),
    youngFrom: fc.array(fc.nat(20), { minLength: 5, maxLength: 5 }),
    backups: fc.array(fc.tuple(fc.nat(4), fc.nat(14 * 256)), { maxLength: 3 }),
    isSizeKnown: fc.boolean(),
  })
  .map(({ forks, hidden, missing, partials, late, youngFrom, backups, isSizeKnown }) => {
    const step = size / 256
    const switches: TimelineSwitch[][] = [[]]
    const begins = [0n]
    for (const { parent, at } of forks) {
      const from = parent % switches.length
      // Within the 14 segments that there are, behind where the parent begins.
      const begin = Number((begins[from] ?? 0n) / BigInt(step))
      const place = BigInt(begin + 1 + (at % Math.max(1, 14 * 256 - begin))) * BigInt(step)
      switches.push([...(switches[from] ?? []), { timeline: from + 1, lsn: place, reason: '' }])
      begins.push(place)
    }
    const all = switches.slice(1).map((list, index) => ({ timeline: index + 2, switches: list }))
    const is = (list: [number, number, ...unknown[]][], timeline: number, segment: number) =>
      list.some(([t, s]) => t === timeline - 1 && s === segment)
    const files: StoredWalFile[] = []
    for (const [index, begin] of begins.entries()) {
      const timeline = index + 1
      for (let segment = segmentAt(begin, size); segment < 15; segment += 1) {
        const isYoung = segment >= (youngFrom[index] ?? 0) || is(late, timeline, segment)
        const storedAt = daysAgo(isYoung ? 1 : 40)
        if (!is(missing, timeline, segment))
          files.push({ name: walName({ kind: 'segment', timeline, segment }, size), storedAt })
        for (const [t, s, length] of partials.toSorted((a, b) => a[2] - b[2])) {
          if (t !== index || s !== segment) continue
          const end = firstLsn(segment, size) + BigInt(length)
          files.push({ name: walName({ kind: 'partial', timeline, segment, end }, size), storedAt })
        }
      }
    }
    const needs = backups.map(([index, at], number) => {
      const timeline = (index % begins.length) + 1
      const begin = begins[timeline - 1] ?? 0n
      const place = BigInt(at) * BigInt(step)
      return { id: `b${number}`, timeline, lsn: place < begin ? begin : place }
    })
    return {
      files,
      begins,
      timelines: new Timelines(all),
      known: new Timelines(all.filter(({ timeline }) => !hidden.includes(timeline))),
      backups: needs,
      segmentSize: isSizeKnown ? size : null,
    }
  })

t.test('whatever goes, everything reaches as far as before', async (t) => {
  let went = 0
  fc.assert(
    fc.property(world, ({ files, begins, timelines, known, backups, segmentSize }) => {
      const verdicts = judge(files, { timelines: known, backups, segmentSize })
      deepStrictEqual(verdicts.length, files.length)
      deepStrictEqual(new Set(verdicts.map(({ file: { name } }) => name)).size, files.length)
      const gone = verdicts.filter(({ keep }) => !keep)
      went += gone.length
      const holding = (some: readonly StoredWalFile[]) => {
        const coverage = new WalCoverage(size, timelines)
        for (const { name } of some) {
          const parsed = parseWalName(name, size)
          if (parsed !== null) coverage.add(parsed)
        }
        return coverage
      }
      const before = holding(files)
      const after = holding(verdicts.filter(({ keep }) => keep).map((one) => one.file))
      // Base backups of others that begin within the window, where they begin with a segment.
      const within = files
        .filter(({ storedAt }) => storedAt > daysAgo(30))
        .map(({ name }) => {
          const [timeline, begin] = [timelineOf(name), begins[timelineOf(name) - 1] ?? 0n]
          const place = firstLsn(Number.parseInt(name.slice(16, 24), 16), size)
          return { timeline, lsn: place > begin ? place : begin }
        })
      for (const from of [...backups, ...within]) {
        for (const target of begins.map((_, index) => index + 1))
          deepStrictEqual(after.reach({ from, target }), before.reach({ from, target }))
      }
      for (const timeline of begins.map((_, index) => index + 1)) {
        const own = verdicts.filter((one) => timelineOf(one.file.name) === timeline && one.reason !== 'superseded')
        const firstKept = own.findIndex(({ keep }) => keep)
        if (own.length > 0) ok(firstKept >= 0, 'the newest stays')
        ok(
          own.slice(firstKept).every(({ keep }) => keep),
          'what goes is the beginning',
        )
        for (const { file: part } of verdicts.filter(({ reason }) => reason === 'superseded'))
          ok(files.some(({ name }) => name === part.name.slice(0, 24)))
      }
    }),
    { numRuns: 2000 },
  )
  t.ok(went > 1000, `${went} files went`)
})
