import { counting, limit } from './moments.ts'
import type { Case, Line, Value } from './scenario.ts'

const gibi = 2 ** 30
const offsite = { repository: 'offsite' }
const standing = { gone: 'silent', frozen: 'silent' } as const

const archiver = (alert: string, state: string): Case => ({
  alert,
  lines: [
    { name: 'lifeboat_wal_archiver_state', labels: { state }, well: 0, bad: 1 },
    { name: 'lifeboat_wal_archiver_state', labels: { state: 'idle' }, well: 1 },
  ],
  ...{ ...standing, zero: 'silent', half: 'fires' },
})

/** Bad when it is above; one of two sidecars that sees it is enough. */
const above = (
  alert: string,
  name: string,
  labels: Readonly<Record<string, string>>,
  values: Pick<Line, 'bad' | 'edge'>,
): Case => ({
  alert,
  labels,
  lines: [{ name, labels, well: 0, ...values }],
  ...{ ...standing, zero: 'silent', half: 'fires' },
})

/** 1 is well and 0 is not; one of two that is well is enough. */
const downOf = (alert: string, name: string, labels: Readonly<Record<string, string>>, half: Case['half']): Case => ({
  alert,
  labels,
  lines: [{ name, labels, well: 1, bad: 0 }],
  ...{ ...standing, zero: 'fires', half },
})

const physical = (type: string, well: Value): Line => ({
  name: 'lifeboat_policy_backup_max_age_seconds',
  labels: { backup_type: type, database: '' },
  well,
})

/** Free space that shrinks by so much with each sample, of 1000. */
const shrinking =
  (each: number): Value =>
  ({ since, step }) =>
    400 - (since / step) * each

/** A disk that is full at once is not filling any more: another alert tells of it. */
const filling = (
  alert: string,
  of: string,
  labels: Readonly<Record<string, string>>,
  { each, ...times }: Pick<Case, 'step' | 'before' | 'delay'> & { readonly each: number },
): Case => ({
  alert,
  labels,
  lines: [
    { name: `lifeboat_${of}_free_bytes`, labels, well: 400, bad: shrinking(each), edge: shrinking(0.5) },
    { name: `lifeboat_${of}_capacity_bytes`, labels, well: 1000 },
    // One that does not fill, and has little room.
    ...('repository' in labels ? [100, 1000] : []).map((well, index) => ({
      name: `lifeboat_${of}_${index === 0 ? 'free' : 'capacity'}_bytes`,
      labels: { repository: 'local' },
      well,
    })),
  ],
  ...{ ...standing, zero: 'always', half: 'fires' },
  ...times,
  also: { roomy: { outcome: 'silent', lines: { 1: 500 } } },
})

const nearlyFull = (alert: string, of: string, labels: Readonly<Record<string, string>>): Case => ({
  alert,
  labels,
  lines: [
    { name: `lifeboat_${of}_free_bytes`, labels, well: 400, bad: 50, edge: 100 },
    { name: `lifeboat_${of}_capacity_bytes`, labels, well: 1000 },
  ],
  value: (x) => x / 1000,
  ...{ ...standing, zero: 'fires', half: 'fires' },
})

export const walCases: readonly Case[] = [
  above('LifeboatWalSegmentsMissing', 'lifeboat_wal_missing_segments', offsite, { bad: 3 }),
  archiver('LifeboatWalArchivingFailing', 'failing'),
  archiver('LifeboatWalArchivingHung', 'hung'),
  archiver('LifeboatWalArchivingLying', 'lying'),
  archiver('LifeboatWalArchivingLagging', 'lagging'),
  {
    alert: 'LifeboatWalArchivingOff',
    lines: [
      { name: 'lifeboat_wal_archiver_state', labels: { state: 'off' }, well: 0, bad: 1 },
      physical('full', limit),
      { name: 'lifeboat_wal_stream_up', well: null },
      physical('incremental', null),
      physical('dump', limit),
      { name: 'lifeboat_wal_archiver_state', labels: { state: 'idle' }, well: 1 },
    ],
    ...{ ...standing, zero: 'silent', half: 'fires' },
    also: {
      'dumps-alone': { outcome: 'silent', lines: { 1: null } },
      incremental: { outcome: 'fires', lines: { 1: null, 3: limit } },
      received: { outcome: 'silent', lines: { 2: 1 } },
      'to-be-received': { outcome: 'silent', lines: { 2: 0 } },
    },
  },
  filling('LifeboatWalArchiveDiskFilling', 'wal_archive', {}, { each: 6, step: 900, before: 10, delay: 13 }),
  nearlyFull('LifeboatWalArchiveDiskNearlyFull', 'wal_archive', {}),
  {
    ...above('LifeboatWalBacklog', 'lifeboat_wal_backlog_bytes', offsite, { bad: 2 * gibi, edge: gibi }),
  },
  {
    alert: 'LifeboatWalShippingFailing',
    labels: offsite,
    lines: [
      { name: 'lifeboat_wal_ship_failures_total', labels: offsite, well: 0, bad: counting(1) },
      {
        name: 'lifeboat_wal_shipped_segments_total',
        labels: offsite,
        well: ({ t, step }) => t / step,
        bad: ({ t, since, step }) => (t - since) / step,
      },
    ],
    delay: 5,
    ...{ ...standing, zero: 'silent', half: 'silent' },
    also: { 'now-and-then': { outcome: 'silent', lines: { 1: ({ t, step }) => t / step } } },
  },
  above('LifeboatWalQuarantined', 'lifeboat_wal_quarantined_files', offsite, { bad: 3 }),
  downOf('LifeboatWalStreamDown', 'lifeboat_wal_stream_up', {}, 'silent'),
  above('LifeboatWalStreamHole', 'lifeboat_wal_stream_holes_total', {}, { bad: 1 }),
  {
    alert: 'LifeboatSlotRetainsTooMuch',
    labels: { slot: 'old' },
    lines: [
      {
        name: 'lifeboat_replication_slot_retained_bytes',
        labels: { slot: 'old' },
        well: 4096,
        bad: 3 * gibi,
        edge: gibi,
      },
      { name: 'lifeboat_policy_slot_retained_bytes', well: gibi },
    ],
    ...{ ...standing, zero: 'silent', half: 'fires' },
  },
  above('LifeboatSlotLost', 'lifeboat_replication_slot_lost', { slot: 'old' }, { bad: 1 }),
  downOf('LifeboatSlotInactive', 'lifeboat_replication_slot_active', { slot: 'old' }, 'silent'),

  downOf('LifeboatRepositoryDown', 'lifeboat_repository_up', offsite, 'silent'),
  filling('LifeboatRepositoryFilling', 'repository', offsite, { each: 5, step: 1800, before: 12, delay: 9 }),
  nearlyFull('LifeboatRepositoryNearlyFull', 'repository', offsite),
  downOf('LifeboatRepositoryPostureWeak', 'lifeboat_repository_posture', { ...offsite, check: 'public' }, 'fires'),
  above('LifeboatRepositoryForeignObjects', 'lifeboat_repository_foreign_objects', offsite, { bad: 3 }),
  downOf('LifeboatLeaseUnheld', 'lifeboat_lease_held', offsite, 'silent'),
  above('LifeboatRetentionBlocked', 'lifeboat_retention_blocked', offsite, { bad: 1 }),
  above('LifeboatHookFailed', 'lifeboat_hook_failures_total', { hook: 'mount' }, { bad: 1 }),
  above('LifeboatNotificationFailed', 'lifeboat_notification_failures_total', { target: 'ops' }, { bad: 1 }),
  downOf('LifeboatServerDown', 'lifeboat_up', {}, 'silent'),
]
