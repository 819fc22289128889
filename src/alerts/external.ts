import { newestExternal } from '../metrics/queries.ts'
import { type AlertGroup, cluster, condition, lasted, lastKnown, log, there } from './alert.ts'

export const external: AlertGroup = {
  name: 'lifeboat.external',
  about: 'Dumps that other tools write into watched directories',
  memories: lastKnown('cluster_backup:lifeboat_backup_last_success_timestamp_seconds', newestExternal, '7d'),
  alerts: [
    {
      alert: 'LifeboatExternalBackupTooOld',
      expr: condition('Watched dump too old'),
      for: '5m',
      summary: `${there} has no recent dump of {{ $labels.database }}`,
      description: `The newest whole one is ${lasted} old, more than its maxAge. The tool that writes them does not run, fails, or writes elsewhere.`,
      first: '`lifeboat list`, then the log of that tool',
      dashboard: 'backups',
      panel: 6,
    },
    {
      alert: 'LifeboatExternalBackupBroken',
      expr: condition('Watched dump broken'),
      for: '5m',
      summary: `${there} holds dumps that cannot be restored`,
      description:
        '{{ $value }} files are {{ $labels.state }}. Another tool reported them as done; the alert holds until they are moved away.',
      first: `\`lifeboat list\` names them, and ${log('no whole dump')} what is wrong`,
      dashboard: 'backups',
      panel: 18,
    },
    {
      alert: 'LifeboatExternalBackupMissing',
      expr: condition('Watched directory empty'),
      for: '1h',
      summary: `${there} holds no whole dump at all`,
      description: 'Nothing can be restored from it. Nothing comes, its pattern does not fit, or a clean-up took all.',
      first: '`lifeboat check` says whether the pattern fits',
      dashboard: 'backups',
      panel: 13,
    },
    {
      alert: 'LifeboatExternalDatabaseGone',
      expr: condition('Watched database gone'),
      for: '1h',
      summary: `${cluster}: {{ $labels.repository }} has lost all dumps of {{ $labels.database }}`,
      description:
        'Within the last week there were some. The tool dumps it no more, or its clean-up has deleted the last one.',
      first: '`lifeboat list`, then the clean-up of that tool',
      dashboard: 'backups',
      panel: 5,
    },
  ],
}
