import fc from 'fast-check'
import t from 'tap'
import { type SteadyBackups, type SteadyOptions, steadyBackups } from '../../src/domain/cost-steady.ts'
import { monthSeconds } from '../../src/domain/prices.ts'
import type { RetentionPolicy } from '../../src/domain/retention.ts'
import { defaultRetention } from '../support/catalog.ts'

const day = 86_400
const daily = monthSeconds / day
const none = { dump: null, full: null, incremental: null }

function steady(options: Partial<SteadyOptions>): SteadyBackups {
  const found = steadyBackups({ policy: defaultRetention, rates: none, chainLimit: 100, seenSeconds: 0, ...options })
  if (typeof found === 'string') throw new Error(found)
  return found
}

t.test('so many dumps stay as come within keepFor', async (t) => {
  const rates = { ...none, dump: daily }
  t.equal(steady({ rates }).kept.dump.length, 30)
  const policy = { ...defaultRetention, keepForSeconds: 90 * day }
  t.equal(steady({ rates, policy }).kept.dump.length, 90)
  t.equal(steady({ rates: { ...none, dump: daily * 4 } }).kept.dump.length, 120, 'every six hours')
  const weekly = steady({ rates: { ...none, dump: daily / 7 } })
  t.equal(weekly.kept.dump.length, 7, 'keepAtLeast counts where keepFor has only four')
  t.same(steady({}).kept, { dump: [], full: [], incremental: [] }, 'nothing comes')
})

t.test('periods keep more, of each the newest', async (t) => {
  const policy = { ...defaultRetention, keepForSeconds: 30 * day, monthly: 12, yearly: 5 }
  const found = steady({ rates: { ...none, dump: daily }, policy }).kept.dump
  t.ok(found.length >= 30 + 10 + 3 && found.length <= 30 + 12 + 5, String(found.length))
  t.ok((found.at(-1) ?? 0) > 3 * 365 * day, 'of years, too')
})

t.test('each backup that is billed although it is gone', async (t) => {
  const found = steady({ rates: { ...none, dump: daily * 2 }, seenSeconds: 90 * day })
  const young = found.gone.dump.filter((age) => age < 90 * day)
  t.equal(young.length, 120, 'sixty days of two a day')
  t.ok((young[0] ?? 0) >= 30 * day)
})

t.test('a chain stays with its last backup', async (t) => {
  const rates = { ...none, full: daily / 7, incremental: daily }
  const { kept } = steady({ rates })
  const both = [...kept.full, ...kept.incremental].sort((a, b) => a - b)
  t.ok((kept.full.at(-1) ?? 0) > 30 * day, 'the full one is older than keepFor')
  t.ok(both.length > 34 && both.length < 34 + 8, String(both.length))
  const short = steady({ rates: { ...none, incremental: daily }, chainLimit: 5 })
  t.ok(Math.abs(short.kept.incremental.length / short.kept.full.length - 4) < 0.5, 'every fifth becomes a full one')
})

t.test('what never ends', async (t) => {
  const policy = { ...defaultRetention, keepForSeconds: null }
  const options = { policy, rates: { ...none, dump: daily }, chainLimit: 5, seenSeconds: 0 }
  t.equal(steadyBackups(options), 'forever')
  const many = {
    ...options,
    policy: { ...defaultRetention, keepForSeconds: 365 * day },
    rates: { ...none, dump: 44_000 },
  }
  t.equal(steadyBackups(many), 'too-many')
})

t.test('what is young is the same without what is old', async (t) => {
  const policy = { ...defaultRetention, keepForSeconds: 20 * day, daily: 30, weekly: 8, monthly: 12, yearly: 3 }
  const options = { policy, rates: { dump: daily, full: daily / 7, incremental: daily }, seenSeconds: 90 * day }
  const [all, short] = [steady(options), steady({ ...options, onlySeen: true })]
  const young = (ages: readonly number[]) => ages.filter((age) => age < 90 * day)
  t.same(young(short.gone.dump), young(all.gone.dump))
  t.same(young(short.gone.incremental), young(all.gone.incremental))
  t.ok(short.kept.dump.length + short.gone.dump.length < 100)
})

t.test('a longer keepFor never keeps less', async () => {
  const policy = fc.record({
    ...{
      keepForSeconds: fc.integer({ min: 1, max: 60 }).map((days) => days * day),
      keepAtLeast: fc.integer({ min: 1, max: 9 }),
    },
    ...{
      windowSeconds: fc.constant(null),
      daily: fc.nat(10),
      weekly: fc.nat(4),
      monthly: fc.nat(3),
      yearly: fc.constant(0),
    },
  }) as fc.Arbitrary<RetentionPolicy>
  const rate = fc.integer({ min: 1, max: 60 })
  fc.assert(
    fc.property(policy, rate, fc.option(rate), (one, dump, full) => {
      const rates = { dump, full, incremental: null }
      const now = steady({ policy: one, rates })
      const longer = steady({ policy: { ...one, keepForSeconds: (one.keepForSeconds ?? 0) + 7 * day }, rates })
      return (
        longer.kept.dump.length >= now.kept.dump.length &&
        longer.kept.full.length >= now.kept.full.length &&
        now.kept.dump.length >= one.keepAtLeast
      )
    }),
    { numRuns: 60 },
  )
})
