import { type Alert, type AlertGroup, cluster, copied, increased, log, there } from './alert.ts'

const place = 'cluster_name, repository'
const archiver = (state: string) => `max by (cluster_name) (lifeboat_wal_archiver_state{state="${state}"} == 1)`
const archiveFree = (share: number) =>
  `lifeboat_wal_archive_free_bytes / lifeboat_wal_archive_capacity_bytes < ${share}`
const holdsUp = 'pg_wal on the server grows until it does, and the server stops when its disk is full.'

const archiving: readonly Alert[] = [
  {
    alert: 'LifeboatWalArchivingFailing',
    expr: archiver('failing'),
    for: '5m',
    summary: `${cluster}: the server fails to archive its WAL`,
    description: `archive_command ends with an error. The server tries again, and nothing is lost yet; ${holdsUp}`,
    first: '`lifeboat wal status`, then the log of the server: it has what archive_command said',
    dashboard: 'wal',
    panel: 10,
  },
  {
    alert: 'LifeboatWalArchivingHung',
    expr: archiver('hung'),
    for: '5m',
    summary: `${cluster}: the archiving of WAL hangs`,
    description: `archive_command has not returned for more than a minute. No WAL is archived; ${holdsUp}`,
    first: '`ps -ef | grep lifeboat-archive` on the server',
    dashboard: 'wal',
    panel: 10,
  },
  {
    alert: 'LifeboatWalArchivingLying',
    expr: archiver('lying'),
    for: '1m',
    summary: `${cluster}: WAL counts as archived and is not there`,
    description:
      'archive_command returned 0 and stored nothing. The server will recycle that WAL, and no recovery gets past it then.',
    first: '`lifeboat wal status` names the segments: copy them out of pg_wal at once',
    dashboard: 'wal',
    panel: 10,
  },
  {
    alert: 'LifeboatWalArchivingLagging',
    expr: archiver('lagging'),
    for: '15m',
    summary: `${cluster}: the archiving of WAL lags behind`,
    description: `The server writes WAL faster than it is archived. ${cluster} would lose what waits.`,
    first: '`lifeboat wal status`',
    dashboard: 'wal',
    panel: 10,
  },
  {
    alert: 'LifeboatWalArchivingOff',
    expr: `${archiver('off')} and on (cluster_name) lifeboat_policy_backup_max_age_seconds{backup_type=~"full|incremental"} unless on (cluster_name) lifeboat_wal_stream_up`,
    for: '15m',
    summary: `${cluster}: no WAL is archived or received`,
    description:
      'There are physical backups, and nothing after them is kept: what was done since the last one would be lost.',
    first: '`lifeboat wal setup`',
    dashboard: 'wal',
    panel: 10,
  },
]

const slots: readonly Alert[] = [
  {
    alert: 'LifeboatSlotRetainsTooMuch',
    expr: 'max by (cluster_name, slot) (lifeboat_replication_slot_retained_bytes) > on (cluster_name) group_left () max by (cluster_name) (lifeboat_policy_slot_retained_bytes)',
    for: '5m',
    summary: `${cluster}: the slot {{ $labels.slot }} keeps too much WAL`,
    description:
      'The server keeps {{ $value | humanize1024 }}B for it, more than lifeboat_policy_slot_retained_bytes allows. It stops when its disk is full.',
    first: '`lifeboat check` says whether anybody receives with it, and what to do',
    dashboard: 'wal',
    panel: 16,
  },
  {
    alert: 'LifeboatSlotLost',
    expr: 'max by (cluster_name, slot) (lifeboat_replication_slot_lost == 1)',
    for: '0s',
    summary: `${cluster}: the server has given up the slot {{ $labels.slot }}`,
    description:
      'Who receives with it misses WAL: a standby has to be made anew, and Lifeboat needs a new full backup.',
    first: '`lifeboat check`',
    dashboard: 'wal',
    panel: 17,
  },
  {
    alert: 'LifeboatSlotInactive',
    expr: 'max by (cluster_name, slot) (lifeboat_replication_slot_active) == 0',
    for: '1h',
    summary: `${cluster}: nobody receives with the slot {{ $labels.slot }}`,
    description: 'The server keeps WAL for it all the same, until its disk is full.',
    first: '`lifeboat check`',
    dashboard: 'wal',
    panel: 17,
  },
]

export const wal: AlertGroup = {
  name: 'lifeboat.wal',
  about: 'WAL from the server through the archive to the repositories',
  recordings: [increased('cluster:lifeboat_wal_stream_holes_total:increase', 'lifeboat_wal_stream_holes_total')],
  memories: [copied('cluster:lifeboat_wal_archive_free_bytes:15m', 'lifeboat_wal_archive_free_bytes', '6h')],
  alerts: [
    {
      alert: 'LifeboatWalSegmentsMissing',
      expr: `max by (${place}) (lifeboat_wal_missing_segments > 0)`,
      for: '5m',
      summary: `${there} misses WAL`,
      description: 'There is a hole of {{ $value }} segments in the WAL: no recovery gets past it.',
      first: '`lifeboat wal gaps` says which, and where they still are',
      dashboard: 'wal',
      panel: 5,
    },
    ...archiving,
    {
      alert: 'LifeboatWalArchiveDiskFilling',
      expr: `min by (cluster_name) (predict_linear(lifeboat_wal_archive_free_bytes[6h], 86400) < 0) and on (cluster_name) ${archiveFree(0.5)}`,
      for: '30m',
      summary: `${cluster}: the disk of the WAL archive will be full within a day`,
      description: 'It fills as it did during the last six hours. When it is full, no WAL is archived any more.',
      first: '`lifeboat check` says whether anything removes WAL from it',
      dashboard: 'wal',
      panel: 12,
    },
    {
      alert: 'LifeboatWalArchiveDiskNearlyFull',
      expr: `min by (cluster_name) (${archiveFree(0.1)})`,
      for: '5m',
      summary: `${cluster}: the disk of the WAL archive is nearly full`,
      description: `{{ $value | humanizePercentage }} of it is free. When it is full, archiving fails; then ${holdsUp}`,
      first: '`lifeboat wal status`: a repository with a backlog keeps WAL there',
      dashboard: 'wal',
      panel: 12,
    },
    {
      alert: 'LifeboatWalBacklog',
      expr: `max by (${place}) (lifeboat_wal_backlog_bytes > 1024 ^ 3)`,
      for: '15m',
      summary: `${there} lags behind with WAL`,
      description:
        '{{ $value | humanize1024 }}B of finished WAL are not stored there. They would be lost with the machine of the archive.',
      first: `\`lifeboat wal status\`, and ${log('WAL could not be shipped')}`,
      dashboard: 'wal',
      panel: 8,
    },
    {
      alert: 'LifeboatWalShippingFailing',
      expr: `sum by (${place}) (increase(lifeboat_wal_ship_failures_total[15m]) > 0) unless on (${place}) increase(lifeboat_wal_shipped_segments_total[15m]) > 0`,
      for: '15m',
      summary: `${there} takes no WAL`,
      description: 'All attempts to ship WAL to it fail. The archive keeps it; mind the room there.',
      first: log('WAL could not be shipped'),
      dashboard: 'wal',
      panel: 18,
    },
    {
      alert: 'LifeboatWalQuarantined',
      expr: `max by (${place}) (lifeboat_wal_quarantined_files > 0)`,
      for: '5m',
      summary: `${there}: files of the WAL archive are not shipped`,
      description:
        '{{ $value }} files are damaged, of another cluster, or other bytes than those that are stored under their name.',
      first: `${log('is not shipped')} names them and says why`,
      dashboard: 'wal',
      panel: 5,
    },
    {
      alert: 'LifeboatWalStreamDown',
      expr: 'max by (cluster_name) (lifeboat_wal_stream_up) == 0',
      for: '5m',
      summary: `${cluster}: no WAL is received`,
      description: 'The receiver gets nothing, although the server writes. Its slot keeps the WAL meanwhile.',
      first: log('WAL is not received'),
      dashboard: 'wal',
      panel: 4,
    },
    {
      alert: 'LifeboatWalStreamHole',
      expr: 'sum by (cluster_name) (increase(lifeboat_wal_stream_holes_total[1d]) > 0)',
      for: '0s',
      summary: `${cluster}: WAL was gone before it was received`,
      description:
        'The receiver had to begin behind WAL that the server had no longer. No recovery gets past that without a new backup.',
      first: '`lifeboat backup --type full`',
      dashboard: 'wal',
      panel: 15,
    },
    ...slots,
  ],
}
