import {
  byBackup,
  byDatabase,
  newest,
  proven,
  recoveryPoint,
  repositoryUp,
  required,
  rpo,
} from '../../src/metrics/queries.ts'
import { assemble, uids } from './frame.ts'
import { colours, yesNo } from './looks.ts'
import { coarsePoints, seriesPanel, statPanel } from './panels.ts'
import { age, condition, known, moment, problems, since, unknown } from './promql.ts'
import { type Column, tablePanel } from './tables.ts'

const byRepository = 'cluster_name, repository'

/** The latest moment that can be restored, from a repository that can be read now. */
const point = `max by (cluster_name) (${recoveryPoint(byRepository)} and on (${byRepository}) (${repositoryUp} == 1))`

const recoverable = known(`(${since(point)} > bool ${rpo}) or ${condition('Cannot be recovered')} * 0 + 2`)

const unproven = `count by (cluster_name) (${required} unless max by (${byDatabase}) (${proven}))`
const tested = `max by (${byDatabase}) (lifeboat_verification_last_success_timestamp_seconds{level="restore"}) and on (${byDatabase}) ${required}`
const lastTest = `min by (cluster_name) (${tested}) unless ${unproven}`

const fastest = 'min by (cluster_name) (lifeboat_recovery_predicted_seconds)'
const rto = 'max by (cluster_name) (lifeboat_policy_rto_seconds)'
const oldestTest = `max by (cluster_name) (${since(`max by (${byBackup}) (lifeboat_verification_last_success_timestamp_seconds{level="restore"})`)})`
const verificationLimit = 'max by (cluster_name) (lifeboat_policy_verification_max_age_seconds)'
const oldest = `max by (cluster_name) (${since(newest)} / on (${byDatabase}) group_left () ${required})`

/** How much of a limit each cluster uses; one of which that is not known keeps its line. */
const used = (title: string, query: string): Column => ({
  ...{ title, query: known(query), unit: 'percentunit', judgement: 'below-1', decimals: 0 },
})

export const overview = assemble({
  uid: uids.overview,
  title: 'Overview',
  description: 'Can we recover, until when, how fast, and when was that proven?',
  range: '24h',
  showsAll: true,
  sections: [
    {
      title: '',
      // On a phone they stand in this order, by y and then x: what is wrong is on the first screen.
      panels: [
        statPanel({
          id: 1,
          title: 'Can we recover?',
          description:
            'Whether everything that must be backed up can be restored, from a repository that can be read now, to a moment within the recovery point objective. `late`: to an older one. `not everything`: some database has no usable backup anywhere.',
          unit: 'none',
          width: 10,
          targets: [{ query: recoverable, legend: '{{cluster_name}}' }],
          judgement: 'below-1',
          words: { 0: ['yes', colours.good], 1: ['late', colours.late], 2: ['not everything', colours.bad] },
        }),
        tablePanel({
          id: 5,
          title: 'What is wrong',
          description:
            'Every condition of docs/metrics.md that holds now, whether or not the alert rules are loaded, the worst first: `critical` loses data, or could. docs/operations.md says what to do about each.',
          unit: 'none',
          width: 14,
          height: 10,
          place: { x: 10, y: 0 },
          absent: 'nothing',
          rows: { cluster_name: 'Cluster', problem: 'Problem', where: 'Where' },
          columns: [
            {
              title: 'Critical',
              query: problems('critical'),
              unit: 'none',
              words: { 1: ['critical', colours.bad] },
              absent: ' ',
            },
            {
              title: 'Warning',
              query: problems('other'),
              unit: 'none',
              words: { 1: ['warning', colours.late] },
              absent: ' ',
            },
          ],
          leadsTo: uids.sidecar,
          isRanked: true,
        }),
        statPanel({
          id: 2,
          title: 'Until when?',
          description:
            'The latest moment to which everything can be restored, from the best repository that can be read now.',
          unit: 'dateTimeFromNow',
          width: 10,
          place: { x: 0, y: 5 },
          targets: [{ query: known(moment(point)), legend: '{{cluster_name}}' }],
          judgement: 'plain',
        }),
        statPanel({
          id: 3,
          title: 'How fast?',
          description:
            'How long a restore of the whole cluster to the latest moment would take, predicted from restores and verifications that were measured. Unknown until each of its phases was.',
          unit: 's',
          width: 5,
          height: 6,
          place: { x: 0, y: 10 },
          targets: [{ query: known(fastest), legend: '{{cluster_name}}' }],
          judgement: 'plain',
          words: { [unknown]: ['not measured', colours.unknown] },
        }),
        statPanel({
          id: 4,
          title: 'Proven when?',
          description:
            'When the last test restore succeeded, of the database for which that is the longest ago. `not all`: a database that must be backed up has no backup that a restore has proven.',
          unit: 'dateTimeFromNow',
          width: 5,
          height: 6,
          place: { x: 5, y: 10 },
          targets: [{ query: known(`${moment(lastTest)} or ${unproven} * 0`), legend: '{{cluster_name}}' }],
          judgement: 'plain',
          words: { 0: ['not all', colours.bad] },
        }),
        tablePanel({
          id: 6,
          title: 'How much of each limit is used',
          description:
            'From 100 % on a limit of the configuration is missed: the recovery point objective, the largest age of a backup and of a test restore (the worst of each), the recovery time objective.',
          unit: 'none',
          width: 14,
          height: 6,
          place: { x: 10, y: 10 },
          rows: { cluster_name: 'Cluster' },
          columns: [
            used('Recovery point', `${since(point)} / ${rpo}`),
            used('Backups', oldest),
            used('Tests', `${oldestTest} / ${verificationLimit}`),
            used('Time to recover', `${fastest} / ${rto}`),
          ],
          leadsTo: uids.backups,
        }),
      ],
    },
    {
      title: 'Repositories',
      panels: [
        tablePanel({
          id: 7,
          title: 'Repositories',
          description:
            'Each repository is a full copy: what could be restored if it were the only one left. A physical backup and its WAL give a window; without it there are single moments.',
          unit: 'none',
          width: 24,
          rows: { cluster_name: 'Cluster', repository: 'Repository' },
          columns: [
            { title: 'Readable', query: repositoryUp, unit: 'none', judgement: 'at-1', words: yesNo },
            {
              title: 'Recovery point',
              query: moment(recoveryPoint(byRepository)),
              unit: 'dateTimeFromNow',
              absent: 'none',
            },
            {
              title: 'Objective used',
              query: `${since(recoveryPoint(byRepository))} / on (cluster_name) group_left () ${rpo}`,
              unit: 'percentunit',
              judgement: 'below-1',
              decimals: 0,
            },
            {
              title: 'Window since',
              query: moment(`min by (${byRepository}) (lifeboat_recovery_window_start_timestamp_seconds)`),
              unit: 'dateTimeFromNow',
              absent: 'no window',
            },
            {
              title: 'Backups',
              query: `sum by (${byRepository}) (max by (${byRepository}, backup_type) (lifeboat_backups{backup_type!="external"}))`,
              unit: 'short',
            },
            {
              title: 'Proven',
              query: moment(
                `min by (${byRepository}) (${proven}) unless on (${byRepository}) ${condition('Never proven')}`,
              ),
              unit: 'dateTimeFromNow',
              absent: 'not all',
            },
            {
              title: 'Restore takes',
              query: `min by (${byRepository}) (lifeboat_recovery_predicted_seconds)`,
              unit: 's',
              absent: 'not measured',
            },
          ],
          leadsTo: uids.backups,
        }),
        seriesPanel({
          id: 8,
          title: 'Work that would be lost',
          description:
            'Age of the moment to which the best repository can be restored; the WAL dashboard has each. It grows too while the sidecar cannot see. Above the line the recovery point objective is missed.',
          unit: 's',
          width: 24,
          points: coarsePoints,
          targets: [
            { query: age(recoveryPoint('cluster_name')), legend: '{{cluster_name}}' },
            { query: rpo, legend: '{{cluster_name}} limit' },
          ],
        }),
      ],
    },
  ],
})
