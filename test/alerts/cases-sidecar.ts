import { ageOf, ago, ahead, counting, justInTime, limit } from './moments.ts'
import type { Case, Line, Value } from './scenario.ts'

const offsite = { repository: 'offsite' }
const dump = { job: 'dump' }
const server = { collector: 'server' }
const ofJob = (name: string, well: Value): Line => ({ name: `lifeboat_job_${name}`, labels: dump, well })
const start = 'last_start_timestamp_seconds'
const running = ofJob('running', 1)
const point = (repository: string): Line => ({
  name: 'lifeboat_recovery_point_timestamp_seconds',
  labels: { repository },
  well: ago(0.1),
})
const looked = (collector: string, well: Value): Line => ({
  name: 'lifeboat_collector_success',
  labels: { collector },
  well,
})

export const sidecarCases: readonly Case[] = [
  {
    alert: 'LifeboatRepositoryNotRecoverable',
    labels: offsite,
    lines: [
      { ...point('offsite'), bad: null },
      { name: 'lifeboat_repository_up', labels: offsite, well: 1 },
    ],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: {
      down: { outcome: 'fires', lines: { 1: 0 } },
      unseen: { outcome: 'silent', lines: { 1: null } },
    },
  },
  {
    alert: 'LifeboatRepositoryBehind',
    labels: offsite,
    lines: [
      { ...point('offsite'), bad: ago(2), edge: ({ t, limit: most }) => t - 0.1 * most - most },
      point('local'),
      { name: 'lifeboat_policy_rpo_seconds', well: limit },
    ],
    value: (x, { t, limit: most }) => t - 0.1 * most - x,
    ...{ gone: 'silent', frozen: 'silent', zero: 'later', half: 'silent' },
  },
  {
    alert: 'LifeboatRepositoryOverBudget',
    labels: offsite,
    lines: [
      { name: 'lifeboat_repository_monthly_cost_dollars', labels: offsite, well: 10, bad: 30.5, edge: 20 },
      { name: 'lifeboat_policy_monthly_cost_dollars', labels: offsite, well: 20 },
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
  },
  {
    alert: 'LifeboatRepositoryReplicationFailed',
    labels: offsite,
    lines: [
      {
        name: 'lifeboat_repository_replicated_backups',
        labels: { ...offsite, state: 'failed' },
        well: 0,
        bad: 3,
      },
      { name: 'lifeboat_repository_replicated_backups', labels: { ...offsite, state: 'completed' }, well: 9 },
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
  },
  {
    alert: 'LifeboatRepositoryRequestsFailing',
    labels: offsite,
    lines: [
      {
        name: 'lifeboat_s3_request_errors_total',
        labels: { ...offsite, operation: 'PutObject' },
        well: 0,
        bad: counting(5),
      },
      {
        name: 'lifeboat_s3_requests_total',
        labels: { ...offsite, operation: 'PutObject' },
        well: ({ t, step }) => (10 * t) / step,
      },
    ],
    ...{ before: 15, delay: 2 },
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'later' },
  },
  {
    alert: 'LifeboatEncryptionKeyUnreadable',
    lines: [{ ...looked('encryption', 1), bad: 0 }, looked('server', 1), looked('repository:local', 0)],
    ...{ gone: 'silent', frozen: 'silent', zero: 'fires', half: 'fires' },
  },

  {
    alert: 'LifeboatJobStuck',
    labels: dump,
    lines: [
      { ...ofJob(start, ago(0.2)), bad: ago(2), edge: justInTime },
      { name: 'lifeboat_policy_job_timeout_seconds', labels: dump, well: limit },
      running,
    ],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
    also: { idle: { outcome: 'silent', lines: { 2: 0 } } },
  },
  {
    alert: 'LifeboatJobSlow',
    labels: dump,
    lines: [
      { ...ofJob(start, ahead(-60)), bad: ahead(-900), edge: ahead(-800) },
      ofJob('last_duration_seconds', 400),
      running,
    ],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
    also: {
      idle: { outcome: 'silent', lines: { 2: 0 } },
      'not-for-minutes': { outcome: 'silent', lines: { 0: ahead(-590), 1: 3 }, always: true },
    },
  },
  {
    alert: 'LifeboatJobFailing',
    labels: dump,
    lines: [
      { ...ofJob(start, ago(1)), bad: ago(0.2), edge: ago(0.5) },
      ofJob('last_success_timestamp_seconds', ago(0.5)),
      ofJob('next_run_timestamp_seconds', ahead(600)),
      ofJob('running', 0),
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
    also: {
      never: { outcome: 'fires', lines: { 1: null } },
      again: { outcome: 'silent', lines: { 3: 1 } },
      'by-hand': { outcome: 'silent', lines: { 2: null } },
    },
  },
  {
    alert: 'LifeboatJobOverdue',
    labels: dump,
    lines: [{ ...ofJob('next_run_timestamp_seconds', ahead(60)), bad: ahead(-1000), edge: ahead(-600) }],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
  },

  {
    alert: 'LifeboatAlertPathUnproven',
    lines: [
      {
        name: 'lifeboat_alert_path_last_proven_timestamp_seconds',
        well: ago(0.2),
        bad: ago(2),
        edge: justInTime,
      },
      { name: 'lifeboat_policy_alert_path_max_age_seconds', well: limit },
    ],
    value: ageOf,
    ...{ gone: 'fires', frozen: 'later', zero: 'later', half: 'silent' },
    also: {
      never: { outcome: 'fires', lines: { 0: null }, value: (_, { limit: most }) => most },
      unwanted: { outcome: 'silent', lines: { 1: null } },
    },
  },
  {
    alert: 'LifeboatAlertDrill',
    // The seconds since 1970 at which it began.
    lines: [{ name: 'lifeboat_alert_drill_started_timestamp_seconds', well: 0, bad: 1_790_000_000 }],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
  },

  {
    alert: 'LifeboatClusterVanished',
    lines: [{ name: 'lifeboat_policy_rpo_seconds', well: 3600, bad: null }],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
  },
  {
    alert: 'LifeboatCollectorFailing',
    labels: server,
    lines: [{ ...looked('server', 1), bad: 0 }, looked('encryption', 1)],
    ...{ gone: 'silent', frozen: 'silent', zero: 'fires', half: 'silent' },
    also: { key: { outcome: 'silent', lines: { 0: 1, 1: 0 } } },
  },
  {
    alert: 'LifeboatCollectorStale',
    labels: server,
    lines: [
      {
        name: 'lifeboat_collector_last_success_timestamp_seconds',
        labels: server,
        well: ago(0.2),
        bad: ago(2),
        edge: justInTime,
      },
      { name: 'lifeboat_policy_collector_max_age_seconds', labels: server, well: limit },
      looked('server', 1),
      looked('history', 1),
    ],
    value: ageOf,
    ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
    also: { failing: { outcome: 'silent', lines: { 2: 0 } } },
  },
  {
    alert: 'LifeboatClockSkew',
    lines: [
      {
        name: 'lifeboat_collector_last_success_timestamp_seconds',
        labels: server,
        well: ahead(-10),
        bad: ahead(100),
        edge: ahead(60),
      },
      {
        name: 'lifeboat_backup_last_success_timestamp_seconds',
        labels: { ...offsite, backup_type: 'dump', database: 'app' },
        well: ago(0.2),
        edge: ahead(60),
      },
    ],
    value: (x, { t }) => x - t,
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
    also: {
      'by-a-backup': { outcome: 'fires', lines: { 0: ahead(-10), 1: ahead(200) }, value: () => 200 },
    },
  },
]
