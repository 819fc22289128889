import { ageOf, ago, justInTime, limit } from './moments.ts'
import type { Case, Line } from './scenario.ts'

const ofBackup = (type: string) => ({ repository: 'offsite', backup_type: type, database: 'app' })
const ofDatabase = (type: string) => ({ backup_type: type, database: 'app' })
const required = (type: string, database = 'app'): Line => ({
  name: 'lifeboat_policy_backup_max_age_seconds',
  labels: { backup_type: type, database },
  well: limit,
})
/** What is required of others changes nothing. */
export const othersRequired = [required('dump', 'crm'), required('full')]
const lastSuccess = 'lifeboat_backup_last_success_timestamp_seconds'
const fresh = (type: string, labels: Line['labels'] = {}): Line => ({
  name: lastSuccess,
  labels: { ...ofBackup(type), ...labels },
  well: ago(0.2),
})
const inventory = (repository: string, type: string): Line => ({
  name: 'lifeboat_backups',
  labels: { repository, backup_type: type },
  well: 3,
})

const tooOld = (alert: string, type: string): Case => ({
  alert,
  labels: ofBackup(type),
  lines: [{ ...fresh(type), bad: ago(2), edge: justInTime }, required(type)],
  value: ageOf,
  ...{ gone: 'silent', frozen: 'later', zero: 'later', half: 'silent' },
  also: { 'not-required': { outcome: 'silent', lines: { 1: null } } },
})

const deviation: Line = { name: 'lifeboat_backup_deviation_ratio', labels: ofBackup('dump'), well: 1 }
const unusual: Line = { name: 'lifeboat_backup_unusual', labels: ofBackup('dump'), well: 0 }
const bounds: readonly Line[] = [
  { name: 'lifeboat_policy_backup_shrink_below_ratio', well: 0.7 },
  { name: 'lifeboat_policy_backup_grow_above_ratio', well: 1.5 },
]

const unusualSize = (alert: string, bad: number, edge: number): Case => ({
  alert,
  labels: ofBackup('dump'),
  lines: [{ ...deviation, bad, edge }, { ...unusual, bad: 1, edge: 1 }, ...bounds],
  ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
  also: {
    'usual-swing': { outcome: 'silent', lines: { 1: 0 } },
    'nobody-knows': { outcome: 'fires', lines: { 1: null } },
  },
})

const counted = (alert: string, name: string, labels: Readonly<Record<string, string>>): Case => ({
  alert,
  labels,
  lines: [
    { name, labels, well: 0, bad: 2 },
    { name, labels: { ...labels, state: 'sound' }, well: name.includes('external') ? 7 : 0 },
  ],
  ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
})

/** Of the case below: no backup at all. */
const nothing = { 1: null, 7: null, 10: null, 12: null }

export const backupCases: readonly Case[] = [
  tooOld('LifeboatBackupTooOld', 'dump'),
  {
    alert: 'LifeboatBackupNeverCompleted',
    labels: ofDatabase('dump'),
    lines: [
      { ...fresh('dump'), bad: null },
      required('dump'),
      { ...fresh('dump', { repository: 'local' }), well: null },
    ],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: {
      elsewhere: { outcome: 'silent', lines: { 2: ago(9) } },
      'not-required': { outcome: 'silent', lines: { 1: null } },
    },
  },
  {
    alert: 'LifeboatBackupMissingInRepository',
    labels: { repository: 'offsite' },
    lines: [
      { ...fresh('dump'), bad: null },
      fresh('dump', { database: 'crm' }),
      required('dump'),
      required('dump', 'crm'),
      { name: 'lifeboat_repository_up', labels: { repository: 'offsite' }, well: 1 },
      required('external'),
      fresh('external'),
      // Somebody has dropped it.
      fresh('dump', { database: 'dropped' }),
      { ...required('dump', 'dropped'), well: null },
      ...['full', 'incremental'].flatMap((type) => [required(type, ''), fresh(type, { database: '' })]),
    ],
    value: () => 3,
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: {
      empty: { outcome: 'fires', lines: { ...nothing }, value: () => 0 },
      'empty-and-down': { outcome: 'silent', lines: { ...nothing, 4: 0 } },
      'empty-and-unseen': { outcome: 'silent', lines: { ...nothing, 4: null } },
      'not-dropped-here': { outcome: 'fires', lines: { 8: limit }, value: () => 4 },
      'not-required': { outcome: 'silent', lines: { 2: null } },
    },
  },
  {
    alert: 'LifeboatBackupFailed',
    labels: ofDatabase('dump'),
    lines: [
      {
        name: 'lifeboat_backup_last_failure_timestamp_seconds',
        labels: ofDatabase('dump'),
        well: ago(2),
        bad: ago(0.5),
        edge: ago(1),
      },
      fresh('dump'),
      { ...fresh('dump', { repository: 'local' }), well: ago(1) },
      required('dump'),
      ...othersRequired,
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
    also: { 'not-required': { outcome: 'silent', lines: { 3: null } } },
  },
  unusualSize('LifeboatBackupUnusuallySmall', 0.5, 0.7),
  unusualSize('LifeboatBackupUnusuallyLarge', 2, 1.5),
  {
    alert: 'LifeboatBackupRowsUnusual',
    labels: ofBackup('dump'),
    lines: [
      { ...unusual, bad: 1 },
      deviation,
      ...bounds,
      // What is large is another one.
      ...[{ repository: 'local' }, { backup_type: 'full' }, { database: 'crm' }].map((other) => ({
        ...deviation,
        labels: { ...ofBackup('dump'), ...other },
        well: 2,
      })),
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'silent', half: 'fires' },
    beside: { 0: 1, 1: 0.5 },
    also: {
      small: { outcome: 'silent', lines: { 1: 0.5 } },
      large: { outcome: 'silent', lines: { 1: 2 } },
      'as-small-as-may-be': { outcome: 'fires', lines: { 1: 0.7 } },
      'as-large-as-may-be': { outcome: 'fires', lines: { 1: 1.5 } },
      'of-no-known-size': { outcome: 'fires', lines: { 1: null } },
    },
  },
  counted('LifeboatBackupUnusable', 'lifeboat_backups_unusable', { repository: 'offsite', state: 'invalid' }),
  {
    alert: 'LifeboatGlobalsMissing',
    lines: [{ ...inventory('offsite', 'dump'), bad: 0 }, inventory('nightly', 'external')],
    ...{ gone: 'fires', frozen: 'silent', zero: 'fires', half: 'silent' },
    also: { 'nothing-external': { outcome: 'silent', lines: { 1: 0 } } },
  },

  tooOld('LifeboatExternalBackupTooOld', 'external'),
  counted('LifeboatExternalBackupBroken', 'lifeboat_external_files', { repository: 'nightly', state: 'truncated' }),
  {
    alert: 'LifeboatExternalBackupMissing',
    labels: { repository: 'nightly' },
    lines: [
      { ...inventory('nightly', 'external'), bad: 0 },
      { ...inventory('offsite', 'dump'), well: 0 },
    ],
    ...{ gone: 'silent', frozen: 'silent', zero: 'fires', half: 'silent' },
  },
  {
    alert: 'LifeboatExternalDatabaseGone',
    labels: { ...ofBackup('external'), repository: 'nightly' },
    lines: [
      { ...fresh('external', { repository: 'nightly' }), bad: null },
      inventory('nightly', 'external'),
      inventory('weekly', 'external'),
      inventory('nightly', 'dump'),
    ],
    ...{ gone: 'fires', frozen: 'silent', zero: 'silent', half: 'silent' },
    also: { 'not-watched-any-more': { outcome: 'silent', lines: { 1: null } } },
  },
]
