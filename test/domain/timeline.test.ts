import t from 'tap'
import { parseLsn } from '../../src/domain/lsn.ts'
import { lineage, parseHistory, stretchAt, Timelines } from '../../src/domain/timeline.ts'

const lsn = (text: string) => parseLsn(text) as bigint
// As PostgreSQL 15 wrote it after three promotions: it puts an empty line before each that it adds.
const real = '1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-03-01 12:00:00.123456+00\n'

t.test('a history file', async (t) => {
  const history = parseHistory(3, real)
  t.same(history, {
    timeline: 3,
    switches: [
      { timeline: 1, lsn: lsn('0/3000148'), reason: 'no recovery target specified' },
      { timeline: 2, lsn: lsn('0/5000000'), reason: 'before 2026-03-01 12:00:00.123456+00' },
    ],
  })
  t.same(lineage(history), [
    { timeline: 1, begin: 0n, end: lsn('0/3000148') },
    { timeline: 2, begin: lsn('0/3000148'), end: lsn('0/5000000') },
    { timeline: 3, begin: lsn('0/5000000'), end: null },
  ])
  const at = (place: string) => stretchAt(lineage(history), lsn(place)).timeline
  t.same(['0/0', '0/3000147', '0/3000148', '0/4FFFFFF', '0/5000000', 'FFFF/0'].map(at), [1, 1, 2, 2, 3, 3])
  const same = [
    `# a comment\n\n  # another\n \t\n${real}`,
    real.replaceAll('\n', '\r\n'),
    real.replaceAll('\t', '  '),
    real.slice(0, -10),
    real.replace(/ 2026.*/, '\u2028 \0 \t #'),
  ]
  for (const text of same)
    t.match(parseHistory(3, text).switches, [{ timeline: 1 }, { timeline: 2, lsn: lsn('0/5000000') }])
  t.match(parseHistory(3, '2 0/5\n'), { switches: [{ timeline: 2, lsn: 5n, reason: '' }] }, 'by hand, without a reason')
  t.match(parseHistory(3, '1\t0/5\tx\n2\t0/5\tx\n'), { switches: [{ lsn: 5n }, { lsn: 5n }] }, 'left where it began')
})

t.test('what is no history file', async (t) => {
  const bad: Readonly<Record<string, RegExp>> = {
    '': /names no parent/,
    '# only a comment\n': /names no parent/,
    '\0\0\0\0': /line 1 that is no switch/,
    [`${real}\0\0\0`]: /line 4 that is no switch/,
    '1\n': /line 1 that is no switch/,
    '1\t0-3000148\tx\n': /line 1 that is no switch/,
    '1\t0/3000148x\n': /line 1 that is no switch/,
    '1\t0/123456789\tx\n': /line 1 that is no switch/,
    '0x1\t0/3000148\tx\n': /line 1 that is no switch/,
    'one\t0/3000148\tx\n': /"one\\t0\/3000148\\tx"/,
    '0\t0/3000148\tx\n': /names the timeline 0 in line 1/,
    '3\t0/3000148\tx\n': /names the timeline 3 in line 1/,
    '9999999999\t0/3000148\tx\n': /names the timeline 9999999999/,
    '2\t0/3000148\tx\n2\t0/4000000\tx\n': /names the timeline 2 in line 2/,
    '2\t0/3000148\tx\n1\t0/4000000\tx\n': /names the timeline 1 in line 2/,
    '1\t0/0\tx\n': /leaves the timeline 1 in line 1 before it begins/,
  }
  for (const [text, message] of Object.entries(bad)) {
    t.throws(() => parseHistory(3, text), { code: 'wal-invalid', message, hint: /fetch 00000003.history again/ }, text)
  }
  const whole = '1\t0/3000148\t'
  for (let length = 1; length < whole.length; length++)
    t.throws(() => parseHistory(3, `${real.slice(0, 0)}${whole.slice(0, length)}`), { code: 'wal-invalid' }, 'torn')
  t.match(parseHistory(3, whole), { switches: [{ lsn: lsn('0/3000148') }] }, 'the place is whole')
})

t.test('a timeline that forks twice', async (t) => {
  const timelines = new Timelines([
    parseHistory(2, '1\t0/3000000\tx\n'),
    parseHistory(3, '1\t0/3000000\tx\n2\t0/5000000\tx\n'),
    parseHistory(4, '1\t0/2800000\tx\n'),
    parseHistory(7, '1\t0/2800000\tx\n4\t0/6000000\tx\n'),
  ])
  t.same(timelines.known(), [1, 2, 3, 4, 7])
  t.same(timelines.forks(1), [
    { timeline: 4, lsn: lsn('0/2800000') },
    { timeline: 2, lsn: lsn('0/3000000') },
  ])
  t.same(timelines.forks(2), [{ timeline: 3, lsn: lsn('0/5000000') }])
  t.same(timelines.forks(3), [])
  const newest = (timeline: number, place: string) => timelines.newestFrom({ timeline, lsn: lsn(place) })
  t.equal(newest(1, '0/27FFFFF'), 7)
  t.equal(newest(1, '0/2800000'), 3, 'behind the fork only the other way is open')
  t.equal(newest(1, '0/3000000'), 1, 'and behind both none')
  t.equal(newest(2, '0/3000000'), 3)
  t.equal(newest(2, '0/2FFFFFF'), 2, 'it had not begun there')
  t.equal(newest(4, '0/9000000'), 4)
  t.equal(newest(9, '0/9000000'), 9, 'of an unknown one nothing is assumed')
  t.same(
    [1, 7, 9].map((one) => timelines.isKnown(one)),
    [true, true, false],
  )
  t.equal(timelines.leadsTo({ timeline: 1, lsn: lsn('0/2000000') }, 9), false)
  timelines.remove(7)
  t.equal(newest(1, '0/27FFFFF'), 4)
})

t.test('a server that did not get as far as the timeline that it was to follow', async (t) => {
  // PostgreSQL 15 and 17 write this when a segment of timeline 2 is missing and 3 was the target.
  const history = parseHistory(4, `${real}\n3\t0/4000000\tno recovery target specified\n`)
  t.same(lineage(history), [
    { timeline: 1, begin: 0n, end: lsn('0/3000148') },
    { timeline: 2, begin: lsn('0/3000148'), end: lsn('0/4000000') },
    { timeline: 4, begin: lsn('0/4000000'), end: null },
  ])
  const timelines = new Timelines([history])
  t.same(
    [1, 2, 3].map((one) => timelines.forks(one).length),
    [0, 1, 0],
  )
  t.same(lineage(parseHistory(4, `${real}\n3\t0/2000000\tx\n`)), [
    { timeline: 1, begin: 0n, end: lsn('0/2000000') },
    { timeline: 4, begin: lsn('0/2000000'), end: null },
  ])
  const stayed = parseHistory(4, '1\t0/3000148\tx\n2\t0/3000148\tx\n')
  t.same(lineage(stayed)[1], { timeline: 2, begin: lsn('0/3000148'), end: lsn('0/3000148') })
  t.equal(new Timelines([stayed]).forks(2).length, 1)
})
