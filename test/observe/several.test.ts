import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { planRetention } from '../../src/domain/retention-plan.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import type { BackupSummary, RepositoryState } from '../../src/observe/catalog.ts'
import { laggards } from '../../src/observe/lagging.ts'
import type { RecoverySource } from '../../src/observe/recovery.ts'
import { planFromAll } from '../../src/observe/recovery-together.ts'
import { createRetentionView, surveyRetention } from '../../src/observe/retention.ts'
import { at, backup, catalogOf, defaultRetention, proof, repositoryState } from '../support/catalog.ts'
import { storedState } from '../support/wal-state.ts'

const size = 16 * 2 ** 20

function physical(segment: number, fields: Partial<BackupSummary> = {}): BackupSummary {
  return backup(60 * segment, {
    ...{ type: 'full', database: '', id: `2026030${segment}T000000Z-full-abcdef`, serverVersion: '17.2' },
    ...{ startLsn: `0/${segment}000028`, lsn: `0/${segment}000138` },
    ...fields,
  })
}

const full = physical(2)
const incremental = physical(4, { type: 'incremental', id: '20260304T000000Z-incr-abcdef', parent: full.id })

function wal(...ranges: readonly (readonly [number, number])[]): WalCoverage {
  const coverage = new WalCoverage(size, new Timelines())
  for (const [first, last] of ranges) coverage.segments(1).addRange(first, last)
  return coverage
}

function source(state: RepositoryState, coverage: WalCoverage): RecoverySource {
  return {
    ...{
      repository: state,
      stored: storedState(state.name, coverage),
      serverVersion: '17.2',
      clock: null,
      restores: [],
    },
    ...{ server: { systemIdentifier: full.systemIdentifier, timeline: 1 }, now: at(600) },
  }
}

const question = { target: { kind: 'latest' as const }, timeline: null, repository: null, backup: null }
const namesOf = (sources: readonly RecoverySource[]) => planFromAll(sources, question).map((one) => one.repository)

t.test('what no repository can by itself, all of them may', async (t) => {
  const [a, b] = [repositoryState('a', [full]), repositoryState('b', [incremental])]
  const answers = planFromAll([source(a, wal([2, 3])), source(b, wal([4, 9]))], question)
  t.match(
    answers.map(({ repository, plan }) => [repository, plan?.chain.map(({ id }) => id) ?? null]),
    [
      ['a', [full.id]],
      ['b', null],
      ['a and b', [full.id, incremental.id]],
    ],
  )
  t.match(answers[2]?.plan?.to, { lsn: BigInt(10 * size) })
  t.same(
    [...(answers[2]?.copies ?? [])],
    [
      [full.id, ['a']],
      [incremental.id, ['b']],
    ],
  )
  const both = repositoryState('b', [full, incremental])
  t.same(namesOf([source(a, wal([2, 9])), source(both, wal([2, 9]))]), ['a', 'b'], 'one of them is enough')
  t.same(namesOf([source(a, wal([2, 4], [6, 9])), source(both, wal([2, 5]))]), ['a', 'b', 'a and b'], 'a hole in each')
  t.same(planFromAll([source(a, wal([2, 3]))], { ...question, repository: 'a' }).length, 1)
  const refuted = repositoryState('b', [full], [proof(full, 500, { artifact: 'fail' })])
  const sound = planFromAll([source(refuted, wal([2, 9])), source(a, wal([2, 3]))], question)
  t.match(
    sound[2],
    { repository: 'b and a', plan: { chain: [{ id: full.id }] } },
    'the copy that was not refuted counts',
  )
})

t.test('what another repository builds on stays, and counts', async (t) => {
  const newer = physical(6)
  const now = new Date(at(0).getTime() + 1000 * 86_400_000)
  const decide = (state: RepositoryState, others: readonly RepositoryState[]) => {
    const { backups, refusals } = surveyRetention(state, () => false, others)
    return planRetention({ backups, refusals, now, policy: { ...defaultRetention, keepAtLeast: 1 } }).decisions
  }
  const [a, b] = [repositoryState('a', [full, newer]), repositoryState('b', [incremental])]
  t.match(decide(a, []).get(full.id), { keep: false })
  t.match(decide(a, [b]).get(full.id), { keep: true, reasons: ['parent'], until: null })
  t.match(decide(a, [repositoryState('b', [full, incremental])]).get(full.id), { keep: false }, 'it has its own')
  t.match(decide(b, [a]).get(incremental.id), { reasons: ['last-usable', 'keep-at-least'] })
  t.match(decide(b, []).get(incremental.id), { reasons: ['no-better'] }, 'alone it is worth nothing')
  const refuted = repositoryState('a', [full], [proof(full, 500, { artifact: 'fail' })])
  t.match(decide(b, [refuted]).get(incremental.id), { reasons: ['no-better'] })
})

t.test('what cannot be seen may build on whatever is physical', async (t) => {
  const dump = backup(0)
  const former = physical(3, { id: '20260303T000000Z-full-abcdef', serverVersion: '16.4' })
  const state = repositoryState('a', [full, former, physical(6), dump])
  const { backups } = surveyRetention(state, () => false, [], true)
  t.same(
    backups.map(({ mayBeNeededElsewhere = false }) => mayBeNeededElsewhere),
    [true, false, true, false],
    'before PostgreSQL 17 there are no incremental ones',
  )
  const now = new Date(at(0).getTime() + 1000 * 86_400_000)
  const input = { backups, refusals: [], now, policy: { ...defaultRetention, keepAtLeast: 1 } }
  t.match(planRetention(input).decisions.get(full.id), { keep: true, reasons: ['maybe-parent'], until: null })
  const collectors = (success: boolean) => [{ collector: 'repository:b', success }]
  const view = createRetentionView({ policies: new Map([['a', input.policy]]), clockDoubt: () => null })
  const goes = (success: boolean) =>
    view({ at: now, watches: [], repositories: [state], collectors: collectors(success) })
      .get('a')
      ?.removals.map(({ id }) => id)
  t.same([goes(true), goes(false), goes(true)], [[full.id, former.id], [former.id], [full.id, former.id]])
})

t.test('what is damaged counts for none', async (t) => {
  const [old, newest] = [physical(2), physical(6)]
  const child = physical(4, { type: 'incremental', id: '20260304T000000Z-incr-abcdef', parent: old.id })
  const spoil = (summary: BackupSummary) => ({ id: summary.id, state: 'invalid' as const, summary })
  const policy = { ...defaultRetention, keepForSeconds: 3600, keepAtLeast: 1 }
  const view = createRetentionView({ policies: new Map([['a', policy]]), clockDoubt: () => null })
  const plan = (backups: readonly BackupSummary[], unusable: RepositoryState['unusable']) =>
    view(catalogOf({ at: at(9_000), repositories: [{ ...repositoryState('a', backups), unusable }] })).get('a')
  t.match(plan([old, newest], []), { refusal: null, removals: [{ id: old.id }] })
  const spoiled = plan([old], [spoil(newest)])
  t.match(spoiled, { refusal: null, removals: [] })
  t.same(spoiled?.decisions.get(newest.id)?.reasons, ['no-better', 'damaged'])
  t.match(spoiled?.decisions.get(old.id), { reasons: ['last-usable', 'keep-at-least'] })
  const below = plan([child, physical(1)], [spoil(old)])
  t.match(below?.decisions.get(physical(1).id), { reasons: ['last-usable', 'keep-at-least'] }, 'nor what builds on it')
  const past = plan([newest], [spoil(old)])
  t.same(past?.decisions.get(old.id), { keep: false, reasons: ['expired', 'damaged'], until: null })
})

t.test('what a repository missed while it was out of reach', async (t) => {
  const [first, second, third, fourth] = [backup(0), backup(60), backup(120), backup(180)] as const
  const dumps = [first, second, third, fourth]
  const missed = (
    there: readonly BackupSummary[],
    coverage = wal(),
    has: RepositoryState = repositoryState('a', dumps),
    isEncrypting = false,
  ) =>
    laggards(
      catalogOf({
        at: at(600),
        repositories: [has, repositoryState('b', there)],
        wal: {
          ...{ archive: null, clock: null, repositories: [], slots: null },
          stored: [storedState('a', wal([2, 9])), storedState('b', coverage)],
        },
      }),
      { isEncrypting },
    ).get('b')
  t.same(missed(dumps), undefined)
  t.same(missed([first, second]), [third.id, fourth.id])
  t.same(missed([second, fourth]), undefined, 'what it let expire, or never got before, does not come back')
  t.same(missed([]), [fourth.id], 'one that is new gets the newest')
  const refuted = repositoryState('a', dumps, [proof(fourth, 500, { artifact: 'fail' })])
  t.same(missed([first, second], wal(), refuted), [third.id])
  const sealed = repositoryState('a', [first, second, third, { ...fourth, isEncrypted: true }])
  t.same(missed([first], wal(), sealed, true), [fourth.id], 'what is not encrypted goes nowhere once it is to be')
  const other = backup(30, { database: 'other', id: '20260301T003000Z-dump-000000' })
  t.same(missed(dumps, wal(), repositoryState('a', [...dumps, other])), [other.id], 'each database by itself')

  const chain = repositoryState('a', [full, incremental])
  t.same(missed([], wal([2, 4]), chain), [full.id, incremental.id], 'what it builds on comes first')
  t.same(missed([], wal([4, 4]), chain), undefined, 'not before its WAL is there')
  t.same(missed([full], wal([4, 4]), chain), [incremental.id])
  t.same(missed([], wal([2, 4]), repositoryState('a', [incremental])), undefined, 'not without what it builds on')
})
