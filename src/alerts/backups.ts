import { deviation } from '../metrics/queries.ts'
import { type AlertGroup, condition, lasted, log, there, what } from './alert.ts'

const unusualSize = {
  first: `${log('unusually')} names the tables that explain it`,
  dashboard: 'backups',
  for: '0s',
  slowly: true,
} as const

export const backups: AlertGroup = {
  name: 'lifeboat.backups',
  about: 'Backups that Lifeboat makes',
  recordings: [{ record: 'cluster_backup:lifeboat_backup_deviation_ratio:unusual', expr: deviation }],
  alerts: [
    {
      alert: 'LifeboatBackupTooOld',
      expr: condition('Backup too old'),
      for: '5m',
      summary: `${there} has no recent ${what}`,
      description: `The newest one is ${lasted} old, more than lifeboat_policy_backup_max_age_seconds allows.`,
      first: `${log('backup failed')}, then \`lifeboat backup\``,
      dashboard: 'backups',
      panel: 5,
    },
    {
      alert: 'LifeboatBackupNeverCompleted',
      expr: condition('Never backed up'),
      for: '1h',
      summary: `{{ $labels.cluster_name }}: there is no ${what}`,
      description:
        'It must be backed up, and no repository has a complete backup of it: none ever was, or all were deleted. If the database is new, the next scheduled run takes it along.',
      first: `\`lifeboat backup\`; if it fails, ${log('backup failed')}`,
      dashboard: 'backups',
      panel: 2,
    },
    {
      alert: 'LifeboatBackupMissingInRepository',
      expr: condition('Never backed up there'),
      for: '1h',
      summary: `${there} lacks backups`,
      description:
        'Of all that must be backed up it has {{ $value }} only: what is missing lies elsewhere, or nowhere.',
      first: '`lifeboat list` shows what is where; the next `lifeboat backup` goes to all repositories',
      dashboard: 'backups',
      panel: 5,
    },
    {
      alert: 'LifeboatBackupFailed',
      expr: condition('Last attempt failed'),
      for: '15m',
      summary: `{{ $labels.cluster_name }}: the last ${what} failed`,
      description: 'The one before it is still there. Until the next attempt works, what can be restored grows older.',
      first: log('backup failed'),
      dashboard: 'backups',
      panel: 11,
    },
    {
      alert: 'LifeboatBackupUnusuallySmall',
      expr: condition('Backup shrank'),
      summary: `${there}: the newest ${what} is unusually small`,
      description:
        'It has {{ $value | humanizePercentage }} of the usual size, less than lifeboat_policy_backup_shrink_below_ratio. Somebody may have deleted data, or the backup lacks some.',
      ...unusualSize,
      panel: 7,
    },
    {
      alert: 'LifeboatBackupUnusuallyLarge',
      expr: condition('Backup grew'),
      summary: `${there}: the newest ${what} is unusually large`,
      description:
        'It has {{ $value | humanizePercentage }} of the usual size, more than lifeboat_policy_backup_grow_above_ratio. Mind the room in the repository.',
      ...unusualSize,
      panel: 7,
    },
    {
      alert: 'LifeboatBackupRowsUnusual',
      expr: condition('Rows unusual'),
      summary: `${there}: the rows in the newest ${what} are unusual`,
      description: 'Its size is as ever, and tables have far fewer or far more rows than usual.',
      ...unusualSize,
      panel: 5,
    },
    {
      alert: 'LifeboatBackupUnusable',
      expr: condition('Unusable backups'),
      for: '1h',
      summary: `${there} holds {{ $labels.state }} backups`,
      description:
        '{{ $value }} folders hold no backup that can be restored: a run died there, a manifest was changed or cannot be read, or a file is missing or has another size.',
      first: `\`lifeboat list\` names them and says why`,
      dashboard: 'backups',
      panel: 17,
    },
    {
      alert: 'LifeboatGlobalsMissing',
      expr: 'max by (cluster_name) (lifeboat_backups{backup_type="external"} > 0) unless on (cluster_name) lifeboat_backups{backup_type!="external"} > 0',
      for: '1d',
      summary: '{{ $labels.cluster_name }}: no backup holds the roles',
      description:
        'There are dumps of another tool alone. They hold no roles, passwords, memberships or settings of the cluster: a new server has to be given them by hand.',
      first: '`lifeboat backup` takes them along, once a repository is configured',
      dashboard: 'backups',
      panel: 13,
    },
  ],
}
