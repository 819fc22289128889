import { byBackup, byDatabase, newest, proven, required } from '../../src/metrics/queries.ts'
import { assemble, uids } from './frame.ts'
import { colours, noYes } from './looks.ts'
import { seriesPanel, statPanel } from './panels.ts'
import { age, condition, known, moment, since } from './promql.ts'
import { tablePanel } from './tables.ts'

const byRepository = 'cluster_name, repository'
const legend = '{{cluster_name}} {{repository}} {{backup_type}} {{database}}'
const repositoryLegend = '{{cluster_name}} {{repository}}'
const ofBackup = (metric: string) => `max by (${byBackup}) (${metric})`
const ofRepository = (metric: string) => `max by (${byRepository}) (${metric})`
const ofType = (metric: string) => `max by (${byRepository}, backup_type) (${metric})`

const tooOld = `${since(newest)} > on (${byDatabase}) group_left () ${required}`

/** The number of those that hold, 0 only where there is something that it could hold for. */
const count = (holding: string, of: string) =>
  known(`count by (cluster_name) (${holding}) or count by (cluster_name) (${of}) * 0`)

export const backups = assemble({
  uid: uids.backups,
  title: 'Backups',
  description:
    'What there is of each database in each repository, how old, how large and as usual, and the room for more.',
  range: '7d',
  sections: [
    {
      title: '',
      panels: [
        statPanel({
          id: 1,
          title: 'Too old',
          description: 'Databases whose newest backup in a repository is older than the policy allows.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: count(tooOld, `${newest} and on (${byDatabase}) ${required}`),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        statPanel({
          id: 2,
          title: 'Never backed up',
          description:
            'Databases that must be backed up and have no backup anywhere. A new one may wait for its first run.',
          unit: 'short',
          width: 6,
          targets: [{ query: count(condition('Never backed up'), required), legend: '{{cluster_name}}' }],
          judgement: 'below-1',
        }),
        statPanel({
          id: 3,
          title: 'Last attempt failed',
          description: 'Databases whose backup failed after the last one that worked.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: count(condition('Last attempt failed'), `${newest} and on (${byDatabase}) ${required}`),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        statPanel({
          id: 4,
          title: 'Unusable, or broken files',
          description:
            'Folders in repositories without a usable backup, and files of other tools that cannot be restored. They stay until somebody has looked.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: known(
                `sum by (cluster_name) (max by (${byRepository}, state) (lifeboat_backups_unusable or lifeboat_external_files{state=~"empty|truncated|wrong-format|corrupt|unreadable"}))`,
              ),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        tablePanel({
          id: 5,
          title: 'Newest backups',
          description:
            'The newest complete backup of each database in each repository. From 100 % of its limit on it is too old. Its size is compared with what is usual: the log and GET /api/backups name the tables.',
          unit: 'none',
          width: 24,
          height: 10,
          rows: { cluster_name: 'Cluster', repository: 'Repository', backup_type: 'Type', database: 'Database' },
          columns: [
            { title: 'Finished', query: moment(newest), unit: 'dateTimeFromNow' },
            {
              title: 'Limit used',
              query: `${since(newest)} / on (${byDatabase}) group_left () ${required}`,
              unit: 'percentunit',
              judgement: 'below-1',
              absent: 'no limit',
              decimals: 0,
            },
            {
              title: 'Unusual',
              query: ofBackup('lifeboat_backup_unusual'),
              unit: 'none',
              judgement: 'below-1',
              words: noYes,
              absent: 'too few yet',
            },
            { title: 'Size', query: ofBackup('lifeboat_backup_last_size_bytes'), unit: 'bytes' },
            { title: 'Took', query: ofBackup('lifeboat_backup_last_duration_seconds'), unit: 's' },
            { title: 'Proven', query: moment(proven), unit: 'dateTimeFromNow', absent: 'never' },
          ],
          leadsTo: uids.verification,
        }),
      ],
    },
    {
      title: 'Over time',
      panels: [
        seriesPanel({
          id: 6,
          title: 'Age of the newest backup, against its limit',
          description: 'A saw: each backup brings it down. Above the line a backup is too old.',
          unit: 'percentunit',
          width: 12,
          absent: 'no limit, or unknown',
          targets: [
            { query: `${age(newest)} / on (${byDatabase}) group_left () ${required}`, legend },
            { query: 'max by (cluster_name) (lifeboat_policy_rpo_seconds) * 0 + 1', legend: '{{cluster_name}} limit' },
          ],
        }),
        seriesPanel({
          id: 7,
          title: 'Size against what is usual',
          description:
            '100 %: as large as the usual backup. Outside the lines it is looked at, and told of unless such swings are usual. No line below three earlier backups.',
          unit: 'percentunit',
          width: 12,
          targets: [
            { query: ofBackup('lifeboat_backup_deviation_ratio'), legend },
            {
              query: 'max by (cluster_name) (lifeboat_policy_backup_shrink_below_ratio)',
              legend: '{{cluster_name}} lower limit',
            },
            {
              query: 'max by (cluster_name) (lifeboat_policy_backup_grow_above_ratio)',
              legend: '{{cluster_name}} upper limit',
            },
          ],
        }),
        seriesPanel({
          id: 8,
          title: 'Stored size of the newest backup',
          description: 'As it is stored, compressed.',
          unit: 'bytes',
          width: 12,
          targets: [{ query: ofBackup('lifeboat_backup_last_size_bytes'), legend }],
        }),
        seriesPanel({
          id: 9,
          title: 'Size of the database when it was backed up',
          description: 'On the server. Compare its shape with that of the stored size.',
          unit: 'bytes',
          width: 12,
          targets: [{ query: ofBackup('lifeboat_backup_last_source_bytes'), legend }],
        }),
        seriesPanel({
          id: 10,
          title: 'Duration of the newest backup',
          description: 'How long it took.',
          unit: 's',
          width: 12,
          targets: [{ query: ofBackup('lifeboat_backup_last_duration_seconds'), legend }],
        }),
        seriesPanel({
          id: 11,
          title: 'Since the last failed attempt',
          description: 'How long ago an attempt at a backup failed. Where none ever did there is no line.',
          unit: 's',
          width: 12,
          absent: 'none failed, or unknown',
          targets: [
            {
              query: age(`max by (${byDatabase}) (lifeboat_backup_last_failure_timestamp_seconds)`),
              legend: '{{cluster_name}} {{backup_type}} {{database}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Repositories',
      panels: [
        tablePanel({
          id: 12,
          title: 'Room, retention and cost',
          description:
            'Room: the share of the disk that is free (a bucket has no limit). Expiry is blocked while a manifest cannot be read or the clock is in doubt. From 100 % on a month costs more than is allowed.',
          unit: 'none',
          width: 24,
          height: 6,
          rows: { cluster_name: 'Cluster', repository: 'Repository' },
          columns: [
            {
              title: 'Free',
              query: `min by (${byRepository}) (lifeboat_repository_free_bytes / lifeboat_repository_capacity_bytes)`,
              unit: 'percentunit',
              absent: 'no limit',
              decimals: 0,
            },
            {
              title: 'Expiry blocked',
              query: ofRepository('lifeboat_retention_blocked'),
              unit: 'none',
              judgement: 'below-1',
              words: noYes,
            },
            {
              title: 'Objects',
              query: ofRepository('lifeboat_repository_objects'),
              unit: 'short',
              absent: 'not listed yet',
            },
            { title: 'Held', query: ofRepository('lifeboat_backups_held'), unit: 'short' },
            {
              title: 'Kept at least',
              query: ofRepository('lifeboat_policy_retention_seconds'),
              unit: 's',
              absent: 'for ever',
            },
            {
              title: 'A month costs',
              query: ofRepository('lifeboat_repository_monthly_cost_dollars'),
              unit: 'currencyUSD',
              absent: 'no prices',
            },
            {
              title: 'Budget used',
              query: `${ofRepository('lifeboat_repository_monthly_cost_dollars')} / ${ofRepository('lifeboat_policy_monthly_cost_dollars')}`,
              unit: 'percentunit',
              judgement: 'below-1',
              absent: 'no budget',
              decimals: 0,
            },
            {
              title: 'Weaknesses',
              query: `count by (${byRepository}) (max by (${byRepository}, check) (lifeboat_repository_posture) == 0) or count by (${byRepository}) (lifeboat_repository_posture) * 0`,
              unit: 'short',
              judgement: 'below-1',
              absent: 'no bucket',
            },
          ],
        }),
        seriesPanel({
          id: 13,
          title: 'Backups',
          description: 'Complete backups in each repository, by type.',
          unit: 'short',
          width: 12,
          targets: [{ query: ofType('lifeboat_backups'), legend: `${repositoryLegend} {{backup_type}}` }],
        }),
        seriesPanel({
          id: 14,
          title: 'Stored size of all backups',
          description: 'Without the WAL.',
          unit: 'bytes',
          width: 12,
          isStacked: true,
          targets: [{ query: ofType('lifeboat_backups_size_bytes'), legend: `${repositoryLegend} {{backup_type}}` }],
        }),
        seriesPanel({
          id: 15,
          title: 'Free space',
          description: 'Where the repository is stored, if that has a limit.',
          unit: 'bytes',
          width: 12,
          absent: 'no limit, or unknown',
          targets: [
            {
              query: `min by (${byRepository}) (lifeboat_repository_free_bytes)`,
              legend: repositoryLegend,
            },
          ],
        }),
        seriesPanel({
          id: 16,
          title: 'Age of the oldest backup',
          description: 'Every backup stays at least as long as the line of its repository says.',
          unit: 's',
          width: 12,
          targets: [
            {
              query: age(`min by (${byRepository}, backup_type) (lifeboat_backup_oldest_timestamp_seconds)`),
              legend: `${repositoryLegend} {{backup_type}}`,
            },
            { query: ofRepository('lifeboat_policy_retention_seconds'), legend: `${repositoryLegend} kept at least` },
          ],
        }),
        seriesPanel({
          id: 17,
          title: 'Folders without a usable backup',
          description:
            '`incomplete`: a run died. `invalid`: the manifest cannot be read, was changed, or an artifact is not as it says.',
          unit: 'short',
          width: 12,
          targets: [
            {
              query: `max by (${byRepository}, state) (lifeboat_backups_unusable)`,
              legend: `${repositoryLegend} {{state}}`,
            },
          ],
        }),
        seriesPanel({
          id: 18,
          title: 'Files of other tools',
          description: 'Files in watched directories, by what is known of them. docs/external.md explains the states.',
          unit: 'short',
          width: 12,
          absent: 'none watched, or unknown',
          targets: [
            {
              query: `max by (${byRepository}, state) (lifeboat_external_files)`,
              legend: `${repositoryLegend} {{state}}`,
            },
          ],
        }),
        seriesPanel({
          id: 19,
          title: 'Replicated by the bucket',
          description: 'How many of the ten newest backups the bucket has replicated by itself.',
          unit: 'short',
          width: 12,
          absent: 'not replicated, or unknown',
          targets: [
            {
              query: `max by (${byRepository}, state) (lifeboat_repository_replicated_backups)`,
              legend: `${repositoryLegend} {{state}}`,
            },
          ],
        }),
        tablePanel({
          id: 20,
          title: 'How buckets are set up',
          description: '`no` is a weakness, which `lifeboat check` explains. What may not be read is not listed.',
          unit: 'none',
          width: 12,
          height: 8,
          absent: 'no bucket, or unknown',
          rows: { cluster_name: 'Cluster', repository: 'Repository', check: 'Looked at' },
          columns: [
            {
              title: 'Well',
              query: `max by (${byRepository}, check) (lifeboat_repository_posture)`,
              unit: 'none',
              judgement: 'at-1',
              words: { 0: ['no', colours.late], 1: ['yes', colours.good] },
            },
          ],
        }),
      ],
    },
  ],
})
