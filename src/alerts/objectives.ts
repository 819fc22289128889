import { recoveryPoint, rpo } from '../metrics/queries.ts'
import { type AlertGroup, cluster, condition, lasted, log, remembered, there } from './alert.ts'

const missed = 'cluster:lifeboat_recovery_point_missed:bool'
/** The means of quarters of an hour; the mean of those is that of the days. */
const missedMean = 'cluster:lifeboat_recovery_point_missed:mean15m'

/**
 * Recoverability is promised for all but a hundredth of the time. The windows are those of the SRE workbook: the long one
 * says that it matters, the short one that it goes on.
 */
const burns = (long: string, short: string, factor: number, series = missed) =>
  [long, short].map((window) => `avg_over_time(${series}[${window}]) > ${factor * 0.01}`).join(' and ')

const place = 'cluster_name, repository'
const promised = `max by (${place}) (lifeboat_policy_recovery_window_seconds)`
const windowLength = `(time() - max by (${place}) (lifeboat_recovery_window_start_timestamp_seconds))`
const windowSamples = 'cluster_repository:lifeboat_recovery_window:15m'
/** The longest of a week. */
const longestWindow = 'cluster_repository:lifeboat_recovery_window:week'
/** Else it is too new to reach back so far. */
const hadItsTime = `(${remembered(longestWindow)} >= on (${place}) ${promised} or (time() - min by (${place}) (lifeboat_backup_oldest_timestamp_seconds{backup_type="full"})) > on (${place}) ${promised})`

export const objectives: AlertGroup = {
  name: 'lifeboat.objectives',
  about: 'How much would be lost, how long it would take, how far back it goes',
  recordings: [{ record: missed, expr: `(time() - ${recoveryPoint('cluster_name')}) > bool ${rpo}` }],
  memories: [
    { record: missedMean, expr: `avg_over_time(${missed}[15m])` },
    { record: windowSamples, expr: windowLength },
    { record: longestWindow, expr: `max_over_time(${windowSamples}[7d])` },
  ],
  alerts: [
    {
      alert: 'LifeboatNotRecoverable',
      expr: condition('Cannot be recovered'),
      for: '1h',
      summary: `${cluster} cannot be recovered as a whole`,
      description: 'No repository can bring back everything that must be backed up.',
      first: '`lifeboat plan` says what is missing',
      dashboard: 'overview',
      panel: 7,
    },
    {
      alert: 'LifeboatRecoveryPointTooOld',
      expr: condition('Objective missed'),
      for: '5m',
      summary: `${cluster} would lose more work than may be lost`,
      description: `The recovery point is ${lasted} old, more than lifeboat_policy_rpo_seconds allows.`,
      first: '`lifeboat wal status`; where there is no WAL, `lifeboat list`',
      dashboard: 'wal',
      panel: 6,
    },
    {
      alert: 'LifeboatRecoveryPointBurnsFast',
      expr: burns('1h', '5m', 14.4),
      for: '2m',
      summary: `${cluster} keeps falling behind its recovery point objective`,
      description:
        "During the last hour it was missed for {{ $value | humanizePercentage }} of the time. At this rate a month's hundredth is gone in two days.",
      first: `\`lifeboat wal status\`, and ${log('"level":[45]0')}`,
      dashboard: 'wal',
      panel: 6,
    },
    {
      alert: 'LifeboatRecoveryPointBurnsSlowly',
      expr: `${burns('6h', '30m', 6)} or ${burns('3d', '6h', 1, missedMean)}`,
      for: '15m',
      summary: `${cluster} misses its recovery point objective now and then`,
      description:
        'It was missed for {{ $value | humanizePercentage }} of the last hours or days: each time for too short to wake somebody, too often for what is promised.',
      first: `\`lifeboat wal status\`, and ${log('"level":[45]0')}`,
      dashboard: 'wal',
      panel: 6,
    },
    {
      alert: 'LifeboatRestoreTooSlow',
      expr: 'min by (cluster_name) (lifeboat_recovery_predicted_seconds) > max by (cluster_name) (lifeboat_policy_rto_seconds)',
      for: '1h',
      summary: `${cluster}: a recovery would take longer than it may`,
      description: `From its fastest repository it would take ${lasted}, more than lifeboat_policy_rto_seconds allows, going by the last restores.`,
      first: '`lifeboat plan` shows what takes the time',
      dashboard: 'wal',
      panel: 9,
    },
    {
      alert: 'LifeboatRecoveryWindowTooShort',
      expr: `(${windowLength} < on (${place}) ${promised}) and on (${place}) ${hadItsTime}`,
      for: '1h',
      summary: `${there} does not reach back as far as is promised`,
      description: `Every moment can be restored for the last ${lasted} only. Backups or WAL are gone, or there is a hole in the WAL.`,
      first: '`lifeboat plan`, then `lifeboat wal gaps`',
      dashboard: 'wal',
      panel: 7,
    },
  ],
}
