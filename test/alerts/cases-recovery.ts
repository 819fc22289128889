import { othersRequired } from './cases-backups.ts'
import { ageOf, ago, justInTime, limit } from './moments.ts'
import type { AlertValue, Case, Line, Value } from './scenario.ts'

const backup = { repository: 'offsite', backup_type: 'dump', database: 'app' }
const inRepository = (repository = 'offsite') => ({ repository })

const verdict = (alert: string, result: string): Case => {
  const labels = { ...backup, level: 'restore' }
  const line = (of: string, well: Value): Line => ({
    name: 'lifeboat_verification_last_result',
    labels: { ...labels, result: of },
    well,
  })
  return {
    alert,
    labels,
    lines: [{ ...line(result, 0), bad: 1 }, line('pass', 1)],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
  }
}

const verified = (level: string, well: Value): Line => ({
  name: 'lifeboat_verification_last_success_timestamp_seconds',
  labels: { ...backup, level },
  well,
})
const verificationLimit: Line = { name: 'lifeboat_policy_verification_max_age_seconds', well: limit }
const oldest = (well: Value, labels: Line['labels'] = {}): Line => ({
  name: 'lifeboat_backup_oldest_timestamp_seconds',
  labels: { repository: 'offsite', backup_type: 'dump', ...labels },
  well,
})
const times =
  (count: number): Value =>
  (now) =>
    count * now.limit

const rpo: Line = { name: 'lifeboat_policy_rpo_seconds', well: limit }
const point = (repository: string, well: Value): Line => ({
  name: 'lifeboat_recovery_point_timestamp_seconds',
  labels: inRepository(repository),
  well,
})
const up: Line = { name: 'lifeboat_repository_up', labels: inRepository(), well: 1 }

/** Share of the samples of a window in which the objective was missed. */
const missedIn = (seconds: number, ...[, { t, step, limit: most }, at]: Parameters<AlertValue>) => {
  let [all, missed] = [0, 0]
  for (let then = t; then >= Math.max(0, t - seconds); then -= step) {
    const moment = at(then)
    if (moment === null) continue
    all++
    if (then - moment > most) missed++
  }
  return missed / all
}
const hours = (count: number) => count * 3600

/** Missed for so many samples. */
const missedFor =
  (samples: number): Value =>
  ({ t, since, step, limit: most }) =>
    t - (since < samples * step ? 2 : 0.1) * most

const started = (repository: string, well: Value): Line => ({
  name: 'lifeboat_recovery_window_start_timestamp_seconds',
  labels: inRepository(repository),
  well,
})
const promised = (repository: string): Line => ({
  name: 'lifeboat_policy_recovery_window_seconds',
  labels: inRepository(repository),
  well: limit,
})

export const recoveryCases: readonly Case[] = [
  verdict('LifeboatVerificationFailed', 'fail'),
  verdict('LifeboatVerificationInconclusive', 'inconclusive'),
  {
    alert: 'LifeboatVerificationNever',
    labels: backup,
    lines: [
      { name: 'lifeboat_backup_proven_timestamp_seconds', labels: backup, well: ago(1), bad: null },
      { name: 'lifeboat_backup_last_success_timestamp_seconds', labels: backup, well: ago(0.2) },
      {
        name: 'lifeboat_policy_backup_max_age_seconds',
        labels: { backup_type: 'dump', database: 'app' },
        well: limit,
      },
      oldest(ago(3)),
      verificationLimit,
      { name: 'lifeboat_policy_retention_seconds', labels: inRepository(), well: times(100) },
      oldest(ago(3), { repository: 'local' }),
      oldest(ago(3), { backup_type: 'full' }),
      ...othersRequired,
    ],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: {
      new: { outcome: 'silent', lines: { 3: ago(1) } },
      'not-required': { outcome: 'silent', lines: { 2: null } },
      'kept-for-less': { outcome: 'fires', lines: { 4: null, 5: times(5) } },
      'kept-for-longer': { outcome: 'silent', lines: { 4: null, 5: times(6) } },
    },
  },
  {
    alert: 'LifeboatVerificationOverdue',
    labels: backup,
    lines: [
      { ...verified('restore', ago(0.2)), bad: ago(2), edge: justInTime },
      verified('artifact', ago(9)),
      verificationLimit,
    ],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
  },

  {
    alert: 'LifeboatNotRecoverable',
    lines: [{ ...point('offsite', ago(0.1)), bad: null }, up, rpo, point('local', null)],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: {
      unseen: { outcome: 'silent', lines: { 1: null } },
      elsewhere: { outcome: 'silent', lines: { 3: ago(9) } },
    },
  },
  {
    alert: 'LifeboatRecoveryPointTooOld',
    lines: [{ ...point('offsite', ago(0.1)), bad: ago(2), edge: justInTime }, rpo, point('local', null)],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
    also: { elsewhere: { outcome: 'silent', lines: { 2: ago(0.1) } } },
  },
  {
    alert: 'LifeboatRecoveryPointBurnsFast',
    lines: [{ ...point('offsite', ago(0.1)), bad: ago(2), edge: justInTime }, rpo, point('local', null)],
    value: (...all) => missedIn(hours(1), ...all),
    ...{ step: 60, before: 70, delay: 8 },
    ...{ gone: 'silent', frozen: 'later', zero: 'fires', half: 'silent' },
    also: {
      elsewhere: { outcome: 'silent', lines: { 2: ago(0.1) } },
      'for-some-minutes': { outcome: 'silent', lines: { 0: missedFor(8) } },
      'and-over': { outcome: 'once', lines: { 0: missedFor(12) } },
    },
  },
  {
    alert: 'LifeboatRecoveryPointBurnsSlowly',
    lines: [{ ...point('offsite', ago(0.1)), bad: ago(2), edge: justInTime }, rpo, point('local', null)],
    value: (...all) => {
      const [long, short, days] = [
        missedIn(hours(6), ...all),
        missedIn(hours(0.5), ...all),
        missedIn(hours(72), ...all),
      ]
      return long > 0.06 && short > 0.06 ? long : days
    },
    ...{ step: 900, before: 110, delay: 1 },
    ...{ gone: 'silent', frozen: 'later', zero: 'fires', half: 'silent' },
    also: {
      elsewhere: { outcome: 'silent', lines: { 2: ago(0.1) } },
      'once-for-long': { outcome: 'fires', lines: { 0: missedFor(3) } },
      'once-for-short': { outcome: 'silent', lines: { 0: missedFor(1) } },
    },
  },
  {
    alert: 'LifeboatRestoreTooSlow',
    lines: [
      { name: 'lifeboat_recovery_predicted_seconds', labels: inRepository(), well: 100, bad: 700, edge: 600 },
      { name: 'lifeboat_policy_rto_seconds', well: 600 },
      { name: 'lifeboat_recovery_predicted_seconds', labels: inRepository('local'), well: null },
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: { elsewhere: { outcome: 'silent', lines: { 2: 100 } } },
  },
  {
    alert: 'LifeboatRecoveryWindowTooShort',
    labels: inRepository(),
    lines: [
      { ...started('offsite', ago(3)), bad: ago(0.5), edge: justInTime },
      promised('offsite'),
      oldest(ago(3.2), { backup_type: 'full' }),
      oldest(ago(9)),
      started('local', ago(3)),
      promised('local'),
      oldest(ago(3.2), { repository: 'local', backup_type: 'full' }),
    ],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
    also: {
      new: { outcome: 'silent', lines: { 0: ago(0.5), 2: ago(0.6) }, always: true },
      'as-old-as-that': { outcome: 'silent', lines: { 0: ago(0.5), 2: ago(1) }, always: true },
      'with-a-hole': { outcome: 'always', lines: { 0: ago(0.5) }, always: true },
      'lost-what-was-old': { outcome: 'fires', lines: { 2: ago(0.6) } },
      'was-just-long-enough': {
        outcome: 'fires',
        lines: { 0: ({ t, since, limit: most }) => t - (since < 0 ? 1 : 0.5) * most, 2: ago(0.6) },
        always: true,
      },
      'nothing-promised': { outcome: 'silent', lines: { 1: null } },
    },
  },
]
