import { byBackup, newest, proven } from '../../src/metrics/queries.ts'
import { assemble, uids } from './frame.ts'
import { colours, type Words } from './looks.ts'
import { seriesPanel, statPanel, timelinePanel } from './panels.ts'
import { age, condition, known, moment, since } from './promql.ts'
import { type Column, tablePanel } from './tables.ts'

const verdicts: Words = {
  0: ['pass', colours.good],
  1: ['inconclusive', colours.late],
  2: ['fail', colours.bad],
}

const result = (verdict: string, selector = '') =>
  `max by (${byBackup}, level) (lifeboat_verification_last_result{result="${verdict}"${selector}})`

/** 0, 1 or 2, of each backup's last test at each level; of two sidecars that differ the worse. */
const state = (selector = '') => `clamp_max(2 * ${result('fail', selector)} + ${result('inconclusive', selector)}, 2)`

const ofLevel = (level: string): string => `max by (${byBackup}) (${state(`, level="${level}"`)}) or ${newest} * 0 - 1`

const level = (name: string, title: string): Column => ({
  title,
  query: ofLevel(name),
  unit: 'none',
  judgement: 'below-1',
  words: { ...verdicts, [-1]: ['never', colours.unknown] },
})

const lastTest = `max by (${byBackup}) (lifeboat_verification_last_success_timestamp_seconds{level="restore"})`
const limit = 'max by (cluster_name) (lifeboat_policy_verification_max_age_seconds)'
const legend = '{{cluster_name}} {{repository}} {{backup_type}} {{database}}'
/** How many there are; none only where there is something that could be one. */
const count = (query: string, of: string) =>
  known(`count by (cluster_name) (${query}) or count by (cluster_name) (${of}) * 0`)

export const verification = assemble({
  uid: uids.verification,
  title: 'Verification',
  description: 'What was restored for a test, with which verdict, and how long ago.',
  range: '30d',
  sections: [
    {
      title: '',
      panels: [
        statPanel({
          id: 1,
          title: 'Found bad',
          description: 'Backups whose last test failed. Look at the runs of `verify`, and take a new backup first.',
          unit: 'short',
          width: 8,
          targets: [{ query: count(condition('Found bad'), state()), legend: '{{cluster_name}}' }],
          judgement: 'below-1',
        }),
        statPanel({
          id: 2,
          title: 'Never proven',
          description: 'Databases in a repository of which no backup was ever restored with success.',
          unit: 'short',
          width: 8,
          targets: [{ query: count(condition('Never proven'), newest), legend: '{{cluster_name}}' }],
          judgement: 'below-1',
        }),
        statPanel({
          id: 3,
          title: 'Test overdue',
          description: 'Databases in a repository whose last successful test restore is older than the policy allows.',
          unit: 'short',
          width: 8,
          targets: [
            {
              query: count(condition('Verification too old'), `${lastTest} and on (cluster_name) ${limit}`),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        tablePanel({
          id: 4,
          title: 'Last verdicts',
          description:
            'The last test at each level: the bytes of the artifacts, a restore, the data in it. `inconclusive` says nothing of the backup. `never`: not tested yet.',
          unit: 'none',
          width: 24,
          rows: { cluster_name: 'Cluster', repository: 'Repository', backup_type: 'Type', database: 'Database' },
          columns: [
            level('artifact', 'Artifact'),
            level('restore', 'Restore'),
            level('data', 'Data'),
            { title: 'Proven backup of', query: moment(proven), unit: 'dateTimeFromNow', absent: 'none' },
            {
              title: 'Limit used',
              query: `${since(lastTest)} / on (cluster_name) group_left () ${limit}`,
              unit: 'percentunit',
              judgement: 'below-1',
              decimals: 0,
            },
          ],
        }),
      ],
    },
    {
      title: 'Over time',
      panels: [
        timelinePanel({
          id: 5,
          title: 'Verdicts',
          description: 'The worst of the last verdicts at all levels, as it was at each moment.',
          unit: 'none',
          width: 24,
          height: 9,
          targets: [{ query: `max by (${byBackup}) (${state()})`, legend }],
          judgement: 'below-1',
          words: verdicts,
        }),
        seriesPanel({
          id: 6,
          title: 'Age of the last successful test restore',
          description: 'Above the line a test restore is overdue.',
          unit: 's',
          width: 12,
          targets: [
            { query: age(lastTest), legend },
            { query: limit, legend: '{{cluster_name}} limit' },
          ],
        }),
        seriesPanel({
          id: 7,
          title: 'Age of the newest proven backup',
          description: 'How old the data is that is known to restore.',
          unit: 's',
          width: 12,
          targets: [{ query: age(proven), legend }],
        }),
        seriesPanel({
          id: 8,
          title: 'Duration of tests',
          description: 'How long the last tests at all levels took together, whatever their verdicts.',
          unit: 's',
          width: 24,
          targets: [
            {
              query: `sum by (${byBackup}) (max by (${byBackup}, level) (lifeboat_verification_last_duration_seconds))`,
              legend,
            },
          ],
        }),
      ],
    },
  ],
})
