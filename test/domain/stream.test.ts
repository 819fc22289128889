import t from 'tap'
import { planStart, type StreamFacts, StreamProgress } from '../../src/domain/stream.ts'

const size = 2 ** 20
const at = (segment: number, offset = 0) => BigInt(segment * size + offset)
const one = [{ timeline: 1, begin: 0n, end: null }]
const forked = [
  { timeline: 1, begin: 0n, end: at(7, 500) },
  { timeline: 2, begin: at(7, 500), end: null },
]
const facts = (change: Partial<StreamFacts>): StreamFacts => ({
  segmentSize: size,
  stretches: one,
  end: at(9, 100),
  next: null,
  kept: at(5, 10),
  has: () => true,
  ...change,
})
const next = (timeline: number, segment: number) => ({ next: { timeline, segment } })

t.test('where the receiver begins', async (t) => {
  t.same(planStart(facts({})), { timeline: 1, segment: 5, hole: null }, 'with nothing stored: where the slot is')
  t.same(planStart(facts(next(1, 8))), { timeline: 1, segment: 8, hole: null }, 'after what is stored')
  t.same(planStart(facts({ ...next(1, 3), has: (one) => one >= 3 })), { timeline: 1, segment: 3, hole: null })
  const gone = { ...next(1, 3), has: (one: number) => one >= 4 }
  t.same(planStart(facts(gone)), { timeline: 1, segment: 5, hole: { from: at(3), to: at(5) } })
  t.same(planStart(facts({ ...next(1, 10), end: at(10), has: () => false })), { timeline: 1, segment: 10, hole: null })
  t.equal(planStart(facts(next(1, 11))), null, 'the server has less')
})

t.test('after a failover', async (t) => {
  const moved = { stretches: forked, kept: at(8) }
  t.same(planStart(facts({ ...moved, ...next(1, 6) })), { timeline: 1, segment: 6, hole: null }, 'before the fork')
  t.same(planStart(facts({ ...moved, ...next(1, 7) })), { timeline: 1, segment: 7, hole: null }, 'in its segment')
  t.same(planStart(facts({ ...moved, ...next(1, 8) })), { timeline: 1, segment: 7, hole: null }, 'behind it')
  t.same(planStart(facts({ ...moved, ...next(2, 8) })), { timeline: 2, segment: 8, hole: null })
  t.same(planStart(facts({ ...moved, ...next(5, 8) })), { timeline: 2, segment: 8, hole: null }, 'from elsewhere')
  t.same(planStart(facts({ stretches: forked, kept: at(6) })), { timeline: 1, segment: 6, hole: null })
})

t.test('progress', async (t) => {
  const progress = new StreamProgress(0)
  t.equal(progress.isUp(1_000), null, 'too early')
  progress.note(1_000, { position: 5n, end: 9n })
  t.equal(progress.isUp(1_000), null, 'not there, and not seen moving')
  progress.note(2_000, { position: 6n, end: 20n })
  t.equal(progress.isUp(2_000), true, 'it moves')
  progress.note(60_000, { position: 6n, end: 20n })
  progress.note(70_000, { position: 6n, end: 20n })
  t.equal(progress.isUp(70_000), false)
  progress.note(80_000, { position: 20n, end: 30n })
  progress.note(150_000, { position: 30n, end: 30n })
  t.equal(progress.isUp(150_000), true, 'idle, and there')
  progress.note(220_000, { position: null, end: 30n })
  t.equal(progress.isUp(220_000), false, 'nothing said is no progress')
})
