import fc from 'fast-check'
import t from 'tap'
import type { RetentionCandidate, RetentionPolicy } from '../../src/domain/retention.ts'
import { planRetention } from '../../src/domain/retention-plan.ts'
import { planUncertain } from '../../src/domain/retention-uncertain.ts'

const now = new Date('2026-03-01T00:00:00Z')
const day = 86_400_000
const policy: RetentionPolicy = {
  ...{ keepForSeconds: 30 * 86_400, keepAtLeast: 2, windowSeconds: null },
  ...{ daily: 0, weekly: 0, monthly: 2, yearly: 0 },
}

function file(id: string, daysAgo: number, more: Partial<RetentionCandidate> = {}): RetentionCandidate {
  const at = new Date(now.getTime() - daysAgo * day)
  return {
    ...{ id, type: 'external', database: 'app', systemIdentifier: '', timeline: 0, lsn: null, parent: null },
    ...{ consistentAt: at, finishedAt: at, standing: 'unknown', usable: true, hold: null, inUse: false },
    ...{ standing: 'unproven' as const },
    ...more,
  } as RetentionCandidate
}

t.test('a file that nobody has read counts for itself and against itself', (t) => {
  const backups = [
    file('unread', 40),
    file('sound', 41),
    file('sound too', 42),
    file('old', 43),
    file('unread of january', 45),
    file('older of january', 50),
    file('of december', 70),
    file('of october', 120),
  ]
  const uncertain = new Set(['unread', 'unread of january'])
  const { decisions, removals } = planUncertain({ backups, policy, now, refusals: [] }, (id) => uncertain.has(id))
  t.same(
    removals.map(({ id }) => id),
    ['of october', 'older of january', 'unread of january', 'old'],
  )
  t.match(decisions.get('unread'), { keep: true, reasons: ['last-usable', 'keep-at-least', 'monthly', 'no-better'] })
  t.match(decisions.get('sound'), { keep: true, reasons: ['keep-at-least', 'last-usable', 'monthly'] })
  t.match(decisions.get('sound too'), { keep: true, reasons: ['keep-at-least'] }, 'if the unread one is broken')
  t.match(removals[0]?.needs, ['unread', 'sound'])
  t.end()
})

t.test('whatever the truth about them is, nothing goes that the truth would keep', (t) => {
  const one = fc.record({
    daysAgo: fc.integer({ min: 0, max: 400 }),
    what: fc.constantFrom('sound', 'broken', 'uncertain'),
    truth: fc.boolean(),
    proven: fc.boolean(),
  })
  const property = fc.property(fc.array(one, { maxLength: 12 }), (files) => {
    const backups = files.map(({ daysAgo, what, proven }, index) =>
      file(String(index), daysAgo, { usable: what === 'sound', standing: proven ? 'proven' : 'unproven' }),
    )
    const isUncertain = (id: string) => files[Number(id)]?.what === 'uncertain'
    const { decisions, removals } = planUncertain({ backups, policy, now, refusals: [] }, isUncertain)
    for (const { id } of removals) if (decisions.get(id)?.keep !== false) return false
    if (decisions.size !== backups.length) return false
    // All of them sound, or none.
    return [true, false].every((usable) => {
      const real = planRetention({
        ...{ policy, now, refusals: [] },
        backups: backups.map((backup) => (isUncertain(backup.id) ? { ...backup, usable } : backup)),
      })
      return removals.every(({ id }) => real.decisions.get(id)?.keep === false)
    })
  })
  fc.assert(property)
  t.end()
})
