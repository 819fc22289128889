import fc from 'fast-check'
import t from 'tap'
import { clockBounds, coveredMoment, isVoid, normalLsn, noteSample } from '../../src/domain/recovery-point.ts'
import { lineage } from '../../src/domain/timeline.ts'

const mebibyte = 1024 * 1024
const sample = { systemIdentifier: '7', timeline: 1, state: 'a', lsn: 100n, at: 1000 }

t.test('what is written behind a header ends before it', async (t) => {
  t.equal(normalLsn(0x6000028n, 16 * mebibyte), 0x6000000n)
  t.equal(normalLsn(0x6000028n, 64 * mebibyte), 0x6000028n, 'amid a segment')
  t.equal(normalLsn(0x6002018n, 16 * mebibyte), 0x6002000n, 'a page')
  for (const lsn of [0n, 0x28n - 1n, 0x6000018n, 0x6000060n, 0x6002028n, 0x6001018n, 0x6000000n])
    t.equal(normalLsn(lsn, 16 * mebibyte), lsn, lsn.toString(16))
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.constantFrom(1, 16, 1024), (lsn, size) => {
      const normal = normalLsn(lsn, size * mebibyte)
      return normal === lsn || (normal % 8192n === 0n && lsn - normal <= 0x28n)
    }),
  )
})

t.test('runs', async (t) => {
  const { run, isNew } = noteSample(null, sample)
  t.match(run, { lsn: 100n, at: 1000, leastAt: 1000, wentBack: false })
  t.equal(isNew, true)
  const grown = noteSample(run, { ...sample, lsn: 160n, at: 6000 })
  t.match(
    grown,
    { isNew: false, run: { lsn: 100n, at: 6000, leastAt: 1000, wentBack: false } },
    'the first place counts',
  )
  for (const other of [{ state: 'b' }, { timeline: 2 }, { systemIdentifier: '8' }, { state: null }])
    t.equal(noteSample(run, { ...sample, ...other }).isNew, true, JSON.stringify(other))
  t.match(noteSample(grown.run, { ...sample, at: 5000 }).run, { at: 5000, leastAt: 1000, wentBack: true })
  t.match(noteSample(grown.run, { ...sample, state: 'b', at: 5000 }).run, { leastAt: 5000, wentBack: true })
  t.equal(noteSample(run, sample).run, run, 'nothing is new')
})

t.test('a standby has the moments of what it replays', async (t) => {
  const { run } = noteSample(null, { ...sample, state: null })
  t.equal(noteSample(run, { ...sample, state: null, lsn: 300n }).run, run, 'WAL without a commit')
  const next = noteSample(run, { ...sample, state: null, lsn: 300n, at: 900 })
  t.match(next, { isNew: true, run: { lsn: 300n, at: 900, wentBack: false } }, 'clocks elsewhere')
  t.equal(isVoid({ ...run, lsn: 400n }, next.run), false, 'it may lag behind')
})

t.test('WAL that a crash has taken', async (t) => {
  const { run } = noteSample(null, sample)
  const { run: after } = noteSample(run, { ...sample, state: 'b', lsn: 90n })
  t.equal(isVoid(run, after), true)
  t.equal(isVoid({ ...run, timeline: 2 }, after), false)
  t.equal(isVoid({ ...run, systemIdentifier: '8' }, after), false)
  t.equal(isVoid(after, run), false)
})

t.test('two forks', async (t) => {
  const stretches = lineage({
    timeline: 3,
    switches: [
      { timeline: 1, lsn: 500n, reason: '' },
      { timeline: 2, lsn: 800n, reason: '' },
    ],
  })
  const bounds = (end: bigint) => clockBounds(stretches, end).map(({ timeline, lsn }) => [timeline, lsn])
  t.same(bounds(900n), [
    [3, 900n],
    [2, 800n],
    [1, 500n],
  ])
  t.same(bounds(799n), [
    [2, 799n],
    [1, 500n],
  ])
  t.same(bounds(100n), [[1, 100n]])
})

t.test('the moment', async (t) => {
  t.equal(coveredMoment(5, null, 9), 5)
  t.equal(coveredMoment(5, 3, 9), 3)
  t.equal(coveredMoment(5, 7, 9), 5)
  t.equal(coveredMoment(5, null, 2), 2, 'never later than now')
})
