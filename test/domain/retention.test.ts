import { deepStrictEqual } from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { backupTypes } from '../../src/domain/backup.ts'
import {
  type RetentionCandidate,
  type RetentionPlan,
  type RetentionPolicy,
  type RetentionRefusal,
  retentionReasons,
} from '../../src/domain/retention.ts'
import { planRetention } from '../../src/domain/retention-plan.ts'
import { defaultRetention } from '../support/catalog.ts'

const dayMs = 86_400_000
const now = new Date('2026-06-15T05:00:00Z')
const daysAgo = (days: number) => new Date(now.getTime() - days * dayMs)

/** A dump of `app` of so many days ago; by default its place in the WAL fits its age. */
function dump(days: number, fields: Partial<RetentionCandidate> = {}): RetentionCandidate {
  return {
    id: `dump-${days}`,
    type: 'dump',
    database: 'app',
    systemIdentifier: '7',
    timeline: 1,
    lsn: `0/${Math.round(0x10000000 - days * 1000)
      .toString(16)
      .toUpperCase()}`,
    consistentAt: daysAgo(days),
    finishedAt: daysAgo(days),
    parent: null,
    standing: 'unproven',
    usable: true,
    hold: null,
    inUse: false,
    ...fields,
  }
}

const strict: RetentionPolicy = { ...defaultRetention, keepForSeconds: 10 * 86_400, keepAtLeast: 1 }

function plan(
  backups: readonly RetentionCandidate[],
  policy: Partial<RetentionPolicy> = {},
  refusals: readonly RetentionRefusal[] = [],
  at = now,
): RetentionPlan {
  return planRetention({ backups, policy: { ...strict, ...policy }, now: at, refusals })
}

const goes = (made: RetentionPlan) => made.removals.map(({ id }) => id)
const why = (made: RetentionPlan, id: string) => made.decisions.get(id)?.reasons

t.test('what the bucket has locked stays, and what it builds on', async (t) => {
  const soon = new Date(now.getTime() + 3_600_000)
  const made = plan([
    dump(1),
    dump(20, { lock: { until: soon } }),
    dump(30, { lock: { until: null } }),
    dump(40, { lock: { until: now } }),
    dump(50, { type: 'full', id: 'base' }),
    dump(49, { type: 'incremental', id: 'child', parent: 'base', lock: { until: soon } }),
    dump(1, { type: 'full', id: 'newer' }),
  ])
  t.same(made.decisions.get('dump-20'), { keep: true, reasons: ['locked'], until: soon })
  t.same(made.decisions.get('dump-30'), { keep: true, reasons: ['locked'], until: null })
  t.same(made.decisions.get('base'), { keep: true, reasons: ['parent'], until: soon })
  t.same(goes(made), ['dump-40'], 'a lock that has ended locks nothing')
  t.equal(made.held, 0)
})

t.test('by age, with the newest ones kept however old they are', async (t) => {
  const made = plan([dump(9), dump(10), dump(11), dump(12)])
  t.same(goes(made), ['dump-12', 'dump-11', 'dump-10'], 'oldest first; exactly as old as keepFor is old enough')
  t.same(why(made, 'dump-9'), ['last-usable', 'keep-for', 'keep-at-least'])
  t.same(made.decisions.get('dump-12'), { keep: false, reasons: ['expired'], until: null })
  t.same(goes(plan([dump(20), dump(30), dump(40)], { keepAtLeast: 2 })), ['dump-40'])
  const physical = { database: '', type: 'full' } as const
  const chain = [dump(40, physical), dump(20, { ...physical, type: 'incremental', parent: 'dump-40' })]
  const twins = [...chain, dump(20, { ...physical, id: 'made' }), dump(30, physical), dump(50, physical)]
  t.same(goes(plan(twins, { keepAtLeast: 2 })), ['dump-50'], 'a chain and what was put together from it are not two')
  t.same(goes(plan([...twins, dump(11, physical)], { keepAtLeast: 1 })), [
    'dump-20',
    'dump-50',
    'dump-40',
    'dump-30',
    'made',
  ])
  t.same(goes(plan([dump(400), dump(500)], { keepForSeconds: null })), [])
  t.same(plan([], {}).removals, [])
})

t.test('until when', async (t) => {
  const made = plan([dump(1), dump(2), dump(4, { hold: { until: daysAgo(-20) } }), dump(6, { hold: { until: null } })])
  t.equal(made.decisions.get('dump-1')?.until, null, 'until there is a newer one')
  t.same(made.decisions.get('dump-2')?.until, daysAgo(-8), 'until it is too old')
  t.same(made.decisions.get('dump-4')?.until, daysAgo(-20), 'until the last reason ends')
  t.equal(made.decisions.get('dump-6')?.until, null, 'until it is released')
})

t.test('the last usable and the last proven one, of each database of each cluster', async (t) => {
  const old = [
    dump(50, { standing: 'proven' }),
    dump(40, { standing: 'proven' }),
    dump(30),
    dump(60, { id: 'other', database: 'other' }),
    dump(70, { id: 'former', systemIdentifier: '6', lsn: 'FF/0' }),
    dump(80, { id: 'cluster', type: 'full', database: '' }),
  ]
  const made = plan(old)
  t.same(goes(made), ['dump-50'])
  t.same(why(made, 'dump-40'), ['last-proven'])
  t.same(why(made, 'dump-30'), ['last-usable', 'keep-at-least'])
  t.same(made.removals[0]?.needs, ['dump-30', 'dump-40'], 'what must still be there when it goes')
})

t.test('what a verification refuted counts for nothing, and stays until there is a good one', async (t) => {
  const made = plan([dump(20, { standing: 'refuted' }), dump(30), dump(35, { standing: 'refuted' }), dump(40)])
  t.same(why(made, 'dump-20'), ['no-better'])
  t.same(why(made, 'dump-30'), ['last-usable', 'keep-at-least'])
  t.same(goes(made), ['dump-40', 'dump-35'])
  t.same(goes(plan([dump(20, { standing: 'refuted' }), dump(30, { standing: 'refuted' })])), [], 'all that is left')
  t.same(why(plan([dump(5, { standing: 'refuted' }), dump(1)]), 'dump-5'), ['keep-for'], 'not sooner than others')
  t.same(goes(plan([dump(20, { usable: false }), dump(30), dump(40)])), ['dump-40'], 'nor what cannot be restored')
})

t.test('what is not known keeps, and counts for nothing', async (t) => {
  const made = plan([dump(-2, { standing: 'proven' }), dump(20, { standing: 'unknown' }), dump(30), dump(40)])
  t.same(why(made, 'dump--2'), ['keep-for', 'clock-ahead'])
  t.same(why(made, 'dump-20'), ['standing-unknown', 'no-better'])
  t.same(why(made, 'dump-30'), ['last-usable', 'keep-at-least'])
  t.same(goes(made), ['dump-40'])
})

t.test('the place in the WAL is the order, not the name nor the clock', async (t) => {
  const made = plan([
    dump(20, { id: 'zzz', lsn: '0/100' }),
    dump(40, { id: 'aaa', lsn: '1/0' }),
    dump(30, { id: 'mmm', lsn: '0/FFFFFFFF' }),
  ])
  t.same(why(made, 'aaa'), ['last-usable', 'keep-at-least'])
  t.same(goes(made), ['zzz', 'mmm'], 'and of removal')
  const forked = plan([dump(20, { id: 'one', lsn: 'FF/0' }), dump(30, { id: 'two', timeline: 2, lsn: '0/0' })])
  t.same(goes(forked), ['one'], 'a new timeline is newer')
  const files = plan([dump(20, { type: 'external', lsn: null }), dump(30, { type: 'external', lsn: null })])
  t.same(goes(files), ['dump-30'], 'without a place in the WAL it is the time')
})

t.test('a recovery window needs what is inside of it, and one before it', async (t) => {
  const made = plan(
    [1, 12, 14, 16, 18].map((days) => dump(days)),
    { keepForSeconds: 86_400, windowSeconds: 15 * 86_400 },
  )
  t.same(goes(made), ['dump-18'])
  t.same(why(made, 'dump-16'), ['window'])
  t.same(made.decisions.get('dump-16')?.until, daysAgo(-1), 'until the next one is before the window')
  t.same(goes(plan([dump(20), dump(30)], { windowSeconds: 10 * 86_400 })), ['dump-30'])
})

t.test('grandfather, father, son', async (t) => {
  const at = (iso: string) => {
    const days = (now.getTime() - Date.parse(iso)) / dayMs
    return dump(days, { id: iso })
  }
  const backups = [
    '2026-06-14T12:00:00Z',
    '2026-06-14T02:00:00Z',
    '2026-06-13T02:00:00Z',
    '2026-06-08T02:00:00Z', // Monday
    '2026-06-07T02:00:00Z', // Sunday, the week before
    '2026-05-31T23:59:59Z',
    '2026-05-31T00:00:00Z',
    '2025-12-31T23:00:00Z',
    '2025-12-30T23:00:00Z',
    '2024-02-29T00:00:00Z',
  ].map(at)
  const only = { keepForSeconds: 3600, keepAtLeast: 1 }
  const stay = (policy: Partial<RetentionPolicy>) => {
    const made = plan(backups, { ...only, ...policy })
    return [...made.decisions].flatMap(([id, { keep }]) => (keep ? id.slice(0, 13) : []))
  }
  t.same(stay({ daily: 2 }), ['2026-06-14T12', '2026-06-13T02'])
  t.same(stay({ weekly: 2 }), ['2026-06-14T12', '2026-06-07T02'])
  t.same(
    stay({ monthly: 3 }),
    ['2026-06-14T12', '2026-05-31T23', '2025-12-31T23'],
    'months without a backup do not count',
  )
  t.same(stay({ yearly: 9 }), ['2026-06-14T12', '2025-12-31T23', '2024-02-29T00'])
})

t.test('held and in use', async (t) => {
  const hold = (until: Date | null) => dump(30, { hold: { until } })
  t.same(goes(plan([dump(1), hold(null)])), [])
  t.same(goes(plan([dump(1), hold(daysAgo(-1))])), [])
  t.same(goes(plan([dump(1), hold(daysAgo(1))])), ['dump-30'], 'a hold that has ended')
  t.same(why(plan([dump(1), dump(30, { inUse: true })]), 'dump-30'), ['in-use'])
})

t.test('chains', async (t) => {
  const full = (days: number, id: string) => dump(days, { type: 'full', database: '', id })
  const incremental = (days: number, id: string, parent: string) =>
    ({ ...full(days, id), type: 'incremental', parent }) as const
  const chain = [full(40, 'f'), incremental(30, 'i1', 'f'), incremental(20, 'i2', 'i1')]
  const kept = plan([...chain, full(1, 'new')], { keepForSeconds: 25 * 86_400 })
  t.same(goes(kept), [])
  t.same(why(kept, 'f'), ['parent'])
  t.same(kept.decisions.get('f')?.until, daysAgo(-5), 'as long as what builds on it')
  t.same(goes(plan([...chain, full(1, 'new')])), ['i2', 'i1', 'f'], 'children before parents')
  const broken = plan([...chain.slice(1), full(50, 'old')])
  t.same(why(broken, 'old'), ['last-usable', 'keep-at-least'], 'one whose parent is missing restores nothing')
  t.same(goes(broken), [])
  const refuted = plan([{ ...full(40, 'f'), standing: 'refuted' }, incremental(20, 'i', 'f'), full(50, 'old')])
  t.same(why(refuted, 'old'), ['last-usable', 'keep-at-least'])
  const loop = plan([incremental(20, 'a', 'b'), incremental(30, 'b', 'a'), full(1, 'new')])
  t.match(loop, { refusal: { cause: 'parent-cycle' }, removals: [] })
  const long = Array.from({ length: 20_000 }, (_, index) =>
    incremental(20, `i${index}`, index === 0 ? 'f' : `i${index - 1}`),
  )
  t.equal(plan([full(40, 'f'), ...long, full(1, 'new')]).removals.length, 20_001)
})

t.test('a refusal keeps everything, and says so of what would go', async (t) => {
  const refusal: RetentionRefusal = { cause: 'clock-forward', message: 'x', hint: 'y' }
  const made = plan([dump(1), dump(30)], {}, [refusal])
  t.equal(made.refusal, refusal)
  t.same(made.removals, [])
  t.same(made.decisions.get('dump-30'), { keep: true, reasons: ['blocked'], until: null })
  t.same(made.decisions.get('dump-1'), {
    keep: true,
    reasons: ['last-usable', 'keep-for', 'keep-at-least', 'blocked'],
    until: null,
  })
})

const candidates = fc
  .array(
    fc.record({
      type: fc.constantFrom(...backupTypes),
      database: fc.constantFrom('app', 'crm', 'a\0b'),
      systemIdentifier: fc.constantFrom('6', '7'),
      timeline: fc.integer({ min: 1, max: 2 }),
      lsn: fc.option(
        fc.integer({ min: 0, max: 40 }).map((n) => `${Math.floor(n / 20)}/${(n % 20).toString(16).toUpperCase()}`),
      ),
      // Mostly at odds with the place in the WAL, some in the future.
      days: fc.integer({ min: -5, max: 120 }),
      took: fc.integer({ min: 0, max: 2 * dayMs }),
      parent: fc.nat(),
      standing: fc.constantFrom('proven' as const, 'unproven' as const, 'refuted' as const, 'unknown' as const),
      usable: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
      hold: fc.option(fc.record({ until: fc.option(fc.integer({ min: -9, max: 9 }).map(daysAgo)) }), { freq: 9 }),
      inUse: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    }),
    { maxLength: 40 },
  )
  .map((list) =>
    list.map(({ days, took, parent, ...fields }, index): RetentionCandidate => {
      const isChild = fields.type === 'incremental'
      return {
        ...fields,
        id: `b${index}`,
        database: fields.type === 'full' || isChild ? '' : fields.database,
        consistentAt: daysAgo(days),
        finishedAt: new Date(daysAgo(days).getTime() + took),
        // An earlier one, or one that is not there: no cycles.
        parent: isChild ? (index === 0 ? 'gone' : `b${parent % (index + 1)}`.replace(`b${index}`, 'gone')) : null,
      }
    }),
  )

const somePolicies: fc.Arbitrary<RetentionPolicy> = fc.record({
  keepForSeconds: fc.option(fc.integer({ min: 3600, max: 90 * 86_400 }), { freq: 9 }),
  keepAtLeast: fc.integer({ min: 1, max: 4 }),
  windowSeconds: fc.option(fc.integer({ min: 3600, max: 60 * 86_400 })),
  daily: fc.integer({ min: 0, max: 3 }),
  weekly: fc.integer({ min: 0, max: 3 }),
  monthly: fc.integer({ min: 0, max: 3 }),
  yearly: fc.integer({ min: 0, max: 2 }),
})

const clocks = fc.integer({ min: -400, max: 400 }).map(daysAgo)
const runs = { numRuns: 2_000 }

/** The definitions once more, by other means than the planner's: slowly, one backup at a time. */
function rules(backups: readonly RetentionCandidate[], at: Date) {
  const byId = new Map(backups.map((one) => [one.id, one]))
  const isAhead = (one: RetentionCandidate) =>
    [one.consistentAt, one.finishedAt].some((date) => date.getTime() > at.getTime() + 300_000)
  const isGood = (one: RetentionCandidate | undefined): boolean =>
    one?.usable === true &&
    ['proven', 'unproven'].includes(one.standing) &&
    !isAhead(one) &&
    (one.parent === null || isGood(byId.get(one.parent)))
  const lsn = (one: RetentionCandidate) => {
    const [high = '0', low = '0'] = (one.lsn ?? '0/0').split('/')
    return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
  }
  const isNewer = (a: RetentionCandidate, b: RetentionCandidate) =>
    a.timeline !== b.timeline
      ? a.timeline > b.timeline
      : lsn(a) !== lsn(b)
        ? lsn(a) > lsn(b)
        : a.consistentAt.getTime() !== b.consistentAt.getTime()
          ? a.consistentAt > b.consistentAt
          : a.finishedAt.getTime() !== b.finishedAt.getTime()
            ? a.finishedAt > b.finishedAt
            : a.id > b.id
  const kind = (one: RetentionCandidate) => (one.type === 'incremental' ? 'full' : one.type)
  const groups = [
    ...Map.groupBy(backups, (one) => JSON.stringify([one.systemIdentifier, kind(one), one.database])).values(),
  ]
  const newest = (some: readonly RetentionCandidate[]) =>
    some.find((one) => !some.some((other) => other !== one && isNewer(other, one)))
  return { isAhead, isGood, isNewer, groups, newest, byId }
}

t.test('whatever there is, whatever the policy and the clock say', async (t) => {
  fc.assert(
    fc.property(candidates, somePolicies, clocks, (backups, policy, at) => {
      const made = planRetention({ backups, policy, now: at, refusals: [] })
      const { isAhead, isGood, isNewer, groups, newest, byId } = rules(backups, at)
      const gone = new Set(goes(made))
      const stays = (one: RetentionCandidate) => !gone.has(one.id)
      const must = (holds: boolean, rule: string) => {
        if (!holds) throw new Error(rule)
      }
      must(made.decisions.size === backups.length && gone.size === made.removals.length, 'each is decided once')
      for (const group of groups) {
        const good = group.filter(isGood)
        const [last, proven] = [newest(good), newest(good.filter(({ standing }) => standing === 'proven'))]
        must(last === undefined || stays(last), 'the last usable one stays')
        must(proven === undefined || stays(proven), 'the last proven one stays')
        must(good.length > 0 || group.every(stays), 'without a usable one all stay')
        must(good.filter(stays).length >= Math.min(good.length, policy.keepAtLeast), 'keepAtLeast usable ones stay')
        for (const one of group) {
          const { keep, reasons, until } = made.decisions.get(one.id) ?? { keep: false, reasons: [], until: null }
          must(keep === stays(one), 'what is decided is what goes')
          must(reasons.length > 0 && reasons.every((word) => word in retentionReasons), 'there is a reason')
          must(keep !== reasons.includes('expired'), 'and it fits')
          must(until === null || (keep && until > at), 'until is ahead')
          if (keep) continue
          must(policy.keepForSeconds !== null, 'forever is forever')
          must(
            at.getTime() - one.finishedAt.getTime() >= (policy.keepForSeconds ?? 0) * 1000,
            'it is older than keepFor',
          )
          must(!isAhead(one), 'it is not from the future')
          must(!one.inUse && one.standing !== 'unknown', 'it is not in use, and what is known of it is known')
          must(one.hold === null || (one.hold.until !== null && one.hold.until <= at), 'it is not held')
          must(
            good.some((other) => other !== one && stays(other) && isNewer(other, one)),
            'a newer usable one stays',
          )
          must(!backups.some((child) => child.parent === one.id && stays(child)), 'nothing that stays builds on it')
        }
        if (policy.windowSeconds !== null) {
          const start = at.getTime() - policy.windowSeconds * 1000
          must(good.filter(({ consistentAt }) => consistentAt.getTime() > start).every(stays), 'the window is whole')
          const before = newest(good.filter(({ consistentAt }) => consistentAt.getTime() <= start))
          must(before === undefined || stays(before), 'and can be restored from its beginning on')
        }
        for (const [count, length] of [
          [policy.daily, 10],
          [policy.monthly, 7],
          [policy.yearly, 4],
        ] as const) {
          const periods = Map.groupBy(good, ({ consistentAt }) => consistentAt.toISOString().slice(0, length))
          for (const period of [...periods.keys()].sort().reverse().slice(0, count)) {
            must(stays(newest(periods.get(period) ?? []) as RetentionCandidate), 'the newest of a period stays')
          }
        }
      }
      for (const [index, { id, needs }] of made.removals.entries()) {
        const later = made.removals.slice(index + 1).map((removal) => removal.id)
        must(!later.some((other) => byId.get(other)?.parent === id), 'children go before parents')
        must(needs.length > 0 && needs.every((needed) => !gone.has(needed)), 'it needs what stays')
      }
    }),
    runs,
  )
  t.pass()
})

t.test('a plan that was carried out, wholly or in part, leaves nothing that another one would regret', async (t) => {
  fc.assert(
    fc.property(candidates, somePolicies, clocks, fc.nat(), (backups, policy, at, cut) => {
      const first = goes(planRetention({ backups, policy, now: at, refusals: [] }))
      const done = new Set(first.slice(0, first.length === 0 ? 0 : cut % (first.length + 1)))
      const left = backups.filter(({ id }) => !done.has(id))
      const second = goes(planRetention({ backups: left, policy, now: at, refusals: [] }))
      deepStrictEqual(
        second,
        first.filter((id) => !done.has(id)),
        'the rest of it',
      )
    }),
    { ...runs, numRuns: 500 },
  )
  t.pass()
})

t.test('until then it stays, whatever the hour', async (t) => {
  fc.assert(
    fc.property(candidates, somePolicies, clocks, fc.integer({ min: 0, max: 999 }), (backups, policy, at, part) => {
      for (const [id, { keep, until }] of planRetention({ backups, policy, now: at, refusals: [] }).decisions) {
        if (!keep || until === null) continue
        const then = new Date(at.getTime() + ((until.getTime() - at.getTime()) * part) / 1000)
        if (planRetention({ backups, policy, now: then, refusals: [] }).decisions.get(id)?.keep !== true)
          throw new Error(`${id} goes before ${until.toISOString()}`)
      }
    }),
    { ...runs, numRuns: 300 },
  )
  t.pass()
})

t.test('the order of the input does not matter', async (t) => {
  fc.assert(
    fc.property(
      candidates,
      somePolicies,
      clocks,
      fc.infiniteStream(fc.double({ noNaN: true })),
      (backups, policy, at, random) => {
        const keys = new Map(backups.map(({ id }) => [id, random.next().value as number]))
        const shuffled = backups.toSorted((a, b) => (keys.get(a.id) ?? 0) - (keys.get(b.id) ?? 0))
        const [one, two] = [backups, shuffled].map((input) =>
          planRetention({ backups: input, policy, now: at, refusals: [] }),
        )
        deepStrictEqual(two?.removals, one?.removals)
      },
    ),
    { ...runs, numRuns: 300 },
  )
  t.pass()
})
