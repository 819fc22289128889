import fc from 'fast-check'
import t from 'tap'
import { parseTargetMoment } from '../../src/config/target-moment.ts'
import { instantsOf } from '../../src/config/zones.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { targetTime } from '../../src/domain/recovery-plan.ts'

const now = new Date('2026-11-26T05:00:00Z')
const read = (text: string) => targetTime(parseTargetMoment(text, now))

function refusal(text: string): string {
  try {
    return `taken for ${read(text)}`
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.code !== 'usage-invalid') throw error
    return `${error.message} (${error.hint})`
  }
}

t.test('moments as people, logs and PostgreSQL write them', async (t) => {
  for (const [text, expected] of [
    ['2026-11-26T03:10:00Z', '2026-11-26 03:10:00.000+00'],
    [' 2026-11-26t03:10:00z ', '2026-11-26 03:10:00.000+00'],
    ['2026-11-26 03:10:00+01', '2026-11-26 02:10:00.000+00'],
    ['2026-11-26 03:10:00.5 -03:30', '2026-11-26 06:40:00.500+00'],
    ['2026-11-26 03:10:00+0530', '2026-11-25 21:40:00.000+00'],
    ['2026-11-26 03:10 UTC', '2026-11-26 03:10:00.000+00'],
    ['2026-07-01 12:00:00 Europe/Berlin', '2026-07-01 10:00:00.000+00'],
    ['2026-12-01 12:00:00 europe/berlin', '2026-12-01 11:00:00.000+00'],
    ['2026-07-01T12:00:00[America/New_York]', '2026-07-01 16:00:00.000+00'],
    ['2028-02-29 00:00Z', '2028-02-29 00:00:00.000+00'],
    ['2h ago', '2026-11-26 03:00:00.000+00'],
    ['-1d2h', '2026-11-25 03:00:00.000+00'],
  ] as const)
    t.equal(read(text), expected, text)
})

t.test('without a zone it is UTC, and that is said', async (t) => {
  t.match(parseTargetMoment('2026-11-26 03:10', now), {
    at: new Date('2026-11-26T03:10:00Z'),
    note: /names no time zone, and was taken for UTC/,
  })
  t.match(parseTargetMoment('2h ago', now), { note: /2h before 2026-11-26T05:00:00.000Z/ })
  t.equal(parseTargetMoment('2026-11-26 03:10Z', now).note, null)
})

t.test('microseconds are kept', async (t) => {
  t.match(parseTargetMoment('2026-11-26 03:10:00.123456+01', now), {
    at: new Date('2026-11-26T02:10:00.123Z'),
    micros: 456,
  })
  t.equal(read('2026-11-26 03:10:00.000001+00'), '2026-11-26 03:10:00.000001+00')
  t.equal(read('1969-12-31 23:59:59.999999Z'), '1969-12-31 23:59:59.999999+00', 'rounded down before 1970 as well')
  t.equal(read('2026-11-26 03:10:00.1234560Z'), '2026-11-26 03:10:00.123456+00')
  t.match(refusal('2026-11-26T03:10:00.1234567Z'), /no more than microseconds/)
})

t.test('a time that comes twice, or never, is refused with both readings', async (t) => {
  t.match(
    refusal('2026-10-25 02:30:00.5 Europe/Berlin'),
    /comes twice in Europe\/Berlin.*2026-10-25 02:30:00.5\+02:00 or 2026-10-25 02:30:00.5\+01:00/,
  )
  t.equal(read('2026-10-25 02:30:00.5+02:00'), '2026-10-25 00:30:00.500+00', 'what it proposes is taken')
  t.equal(read('2026-10-25 03:00 Europe/Berlin'), '2026-10-25 02:00:00.000+00', 'the end of the hour is once')
  t.match(
    refusal('2026-03-29 02:30 Europe/Berlin'),
    /does not exist in Europe\/Berlin.*is 2026-03-29T00:30:00Z or 2026-03-29T01:30:00Z meant/,
  )
  t.match(refusal('2026-04-05 01:45 Australia/Lord_Howe'), /\+11:00 or 2026-04-05 01:45\+10:30/, 'half an hour')
  t.match(refusal('2011-12-30 12:00 Pacific/Apia'), /does not exist/, 'a whole day')
})

t.test('what is no moment', async (t) => {
  for (const [text, expected] of [
    ['', /a date with a year of four digits/],
    ['yesterday', /a word is no moment.*leave it out/],
    ['now', /a word is no moment/],
    ['-infinity', /a word is no moment/],
    ['2026-11-26', /the time of day is missing/],
    ['2026-11-2603:10', /the time of day is missing/],
    ['26.11.2026 03:10', /four digits/],
    ['20260-11-26 03:10Z', /four digits/],
    ['2026-02-30 03:10Z', /no such day/],
    ['2026-13-01 03:10Z', /no such day/],
    ['2026-00-10 03:10Z', /no such day/],
    ['2026-11-26 24:00Z', /no such time of day/],
    ['2016-12-31T23:59:60Z', /leap seconds/],
    ['2026-11-26T03:10:00 01:00', /sign of the offset is missing.*%2B/],
    ['2026-11-26T03:10:00+16:00', /so far from UTC/],
    ['2026-11-26T03:10 CET', /"CET" may mean more than one/],
    ['2026-11-26T03:10 Mars/Base', /no time zone "Mars\/Base"/],
    ['2026-11-26T03:10Z; drop table x', /is no time zone/],
    ['2026-11-26T03:10:00.Z', /is no time zone/],
    ['5 ago', /has no unit/],
    ['-', /four digits/],
    [`2026-11-26T03:10:00.${'1'.repeat(200)}`, /too long/],
  ] as const)
    t.match(refusal(text), expected, text)
})

t.test('every reading of a local time shows that time', async () => {
  const zones = fc.constantFrom(
    'Europe/Berlin',
    'America/Sao_Paulo',
    'Asia/Kathmandu',
    'Africa/Casablanca',
    'Asia/Tehran',
  )
  const walls = fc.integer({ min: Date.UTC(1975, 0) / 60_000, max: Date.UTC(2037, 0) / 60_000 })
  fc.assert(
    fc.property(zones, walls, (zone, minutes) => {
      const wall = minutes * 60_000
      const { instants, isGap } = instantsOf(wall, zone)
      const shown = (at: number) =>
        new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'short' }).format(at)
      const wanted = new Date(wall).toISOString().slice(0, 16).replace('T', ' ')
      return isGap ? instants.length === 2 : instants.length > 0 && instants.every(({ at }) => shown(at) === wanted)
    }),
    { numRuns: 300 },
  )
})
