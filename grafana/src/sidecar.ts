import { named, ofJob } from '../../src/metrics/queries.ts'
import { assemble, uids } from './frame.ts'
import { colours, yesNo } from './looks.ts'
import { seriesPanel, statPanel, timelinePanel } from './panels.ts'
import { age, condition, known, moment } from './promql.ts'
import { tablePanel } from './tables.ts'

const byRepository = 'cluster_name, repository'
const byInstance = 'cluster_name, instance'

/** What has no `cluster_name`, with that of the target it came from. */
const ofSidecars = (metric: string) =>
  `${metric} * on (job, instance) group_left (cluster_name) max by (job, instance, cluster_name) (lifeboat_policy_rpo_seconds * 0 + 1)`

const perJob = (metric: string, span: string) => `sum by (cluster_name, job) (${named(`increase(${metric}[${span}])`)})`

const rate = (metric: string) => `sum by (${byRepository}, operation) (rate(${metric}[$__rate_interval]))`

export const sidecar = assemble({
  uid: uids.sidecar,
  title: 'Sidecar and jobs',
  description: 'Whether Lifeboat itself sees, works, and reaches whom it should tell.',
  range: '24h',
  sections: [
    {
      title: '',
      panels: [
        statPanel({
          id: 1,
          title: 'Sidecars',
          description: 'How many sidecars of each cluster are scraped.',
          unit: 'short',
          width: 6,
          targets: [
            { query: known('count by (cluster_name) (lifeboat_policy_rpo_seconds)'), legend: '{{cluster_name}}' },
          ],
          judgement: 'at-1',
        }),
        statPanel({
          id: 2,
          title: 'Server answers',
          description: 'Whether the last look at PostgreSQL worked.',
          unit: 'none',
          width: 6,
          targets: [{ query: known('max by (cluster_name) (lifeboat_up)'), legend: '{{cluster_name}}' }],
          judgement: 'at-1',
          words: yesNo,
        }),
        statPanel({
          id: 3,
          title: 'Blind collectors',
          description:
            'Parts of the picture that are not being refreshed. While one is blind, its metrics keep what it saw last.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: known(
                `count by (cluster_name) (max by (cluster_name, collector) (lifeboat_collector_success) == 0) or count by (cluster_name) (lifeboat_collector_success) * 0`,
              ),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        statPanel({
          id: 4,
          title: 'Stuck jobs',
          description: 'Jobs that go on although their time is over.',
          unit: 'short',
          width: 6,
          targets: [
            {
              query: known(
                `count by (cluster_name) (${condition('Job stuck')}) or count by (cluster_name) (lifeboat_job_running) * 0`,
              ),
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'below-1',
        }),
        tablePanel({
          id: 5,
          title: 'Jobs',
          description:
            'Every kind of work: its newest run, how much it took of the time that a run may take, and the next that is scheduled. GET /api/runs has each run with its log.',
          unit: 'none',
          width: 24,
          height: 8,
          rows: { cluster_name: 'Cluster', job: 'Job' },
          columns: [
            {
              title: 'Running',
              query: ofJob('lifeboat_job_running'),
              unit: 'none',
              words: { 0: ['no', colours.plain], 1: ['yes', 'blue'] },
            },
            {
              title: 'Done',
              query: ofJob('lifeboat_job_progress_ratio'),
              unit: 'percentunit',
              absent: ' ',
              decimals: 0,
            },
            {
              title: 'Began',
              query: moment(ofJob('lifeboat_job_last_start_timestamp_seconds')),
              unit: 'dateTimeFromNow',
              absent: 'never',
            },
            {
              title: 'Succeeded',
              query: moment(ofJob('lifeboat_job_last_success_timestamp_seconds')),
              unit: 'dateTimeFromNow',
              absent: 'never',
            },
            { title: 'Took', query: ofJob('lifeboat_job_last_duration_seconds'), unit: 's', absent: ' ' },
            {
              title: 'Time used',
              query: `${ofJob('lifeboat_job_last_duration_seconds')} / ${ofJob('lifeboat_policy_job_timeout_seconds')}`,
              unit: 'percentunit',
              judgement: 'below-1',
              absent: 'never',
              decimals: 0,
            },
            {
              title: 'Next',
              query: moment(ofJob('lifeboat_job_next_run_timestamp_seconds')),
              unit: 'dateTimeFromNow',
              absent: 'on demand',
            },
            {
              title: 'Ended in a day',
              query: `ceil(${perJob('lifeboat_job_runs_total', '1d')}) and on (cluster_name, job) ${ofJob('lifeboat_job_running')}`,
              unit: 'short',
            },
            {
              title: 'Failed in a day',
              query: `ceil(${perJob('lifeboat_job_failures_total', '1d')}) and on (cluster_name, job) ${ofJob('lifeboat_job_running')}`,
              unit: 'short',
              judgement: 'below-1',
            },
          ],
        }),
      ],
    },
    {
      title: 'Jobs',
      panels: [
        seriesPanel({
          id: 6,
          title: 'Duration of the newest run',
          description: 'Steps: each run sets it anew. The table above says how much of its time each used.',
          unit: 's',
          width: 12,
          targets: [{ query: ofJob('lifeboat_job_last_duration_seconds'), legend: '{{cluster_name}} {{job}}' }],
        }),
        seriesPanel({
          id: 7,
          title: 'Failed runs within a day',
          description: 'At each moment those of the day before it.',
          unit: 'short',
          width: 12,
          targets: [{ query: perJob('lifeboat_job_failures_total', '1d'), legend: '{{cluster_name}} {{job}}' }],
        }),
        timelinePanel({
          id: 8,
          title: 'At work',
          description: 'When which job ran.',
          unit: 'none',
          width: 24,
          targets: [{ query: ofJob('lifeboat_job_running'), legend: '{{cluster_name}} {{job}}' }],
          judgement: 'plain',
          words: { 0: ['no', colours.plain], 1: ['yes', 'blue'] },
        }),
      ],
    },
    {
      title: 'What it sees',
      panels: [
        timelinePanel({
          id: 9,
          title: 'Collectors',
          description: 'Whether each part of the picture was refreshed.',
          unit: 'none',
          width: 24,
          targets: [
            {
              query: 'max by (cluster_name, collector) (lifeboat_collector_success)',
              legend: '{{cluster_name}} {{collector}}',
            },
          ],
          judgement: 'at-1',
          words: yesNo,
        }),
        seriesPanel({
          id: 10,
          title: 'Age of what was seen',
          description: 'Since the last look of each collector that worked. Above its limit nothing looks any more.',
          unit: 's',
          width: 12,
          targets: [
            {
              query: age('max by (cluster_name, collector) (lifeboat_collector_last_success_timestamp_seconds)'),
              legend: '{{cluster_name}} {{collector}}',
            },
            {
              query: 'max by (cluster_name, collector) (lifeboat_policy_collector_max_age_seconds)',
              legend: '{{cluster_name}} {{collector}} limit',
            },
          ],
        }),
        seriesPanel({
          id: 11,
          title: 'Duration of a look',
          description: 'How long the last look of each collector took.',
          unit: 's',
          width: 12,
          targets: [
            {
              query: 'max by (cluster_name, collector) (lifeboat_collector_duration_seconds)',
              legend: '{{cluster_name}} {{collector}}',
            },
          ],
        }),
        timelinePanel({
          id: 12,
          title: 'Repositories',
          description: 'Whether each could be read.',
          unit: 'none',
          width: 12,
          targets: [
            { query: `max by (${byRepository}) (lifeboat_repository_up)`, legend: '{{cluster_name}} {{repository}}' },
          ],
          judgement: 'at-1',
          words: yesNo,
        }),
        timelinePanel({
          id: 13,
          title: 'Who writes',
          description: 'The sidecar that has the lease on each repository. Where none has, nobody writes.',
          unit: 'none',
          width: 12,
          absent: 'no repository, or unknown',
          targets: [
            {
              query: `max by (${byInstance}, repository) (lifeboat_lease_held)`,
              legend: '{{cluster_name}} {{repository}} {{instance}}',
            },
          ],
          judgement: 'plain',
          words: { 0: ['stands by', colours.plain], 1: ['writes', 'blue'] },
        }),
      ],
    },
    {
      title: 'Alerts, hooks and notifications',
      panels: [
        tablePanel({
          id: 14,
          title: 'Alerts',
          description: 'What fires or is about to. The Watchdog always does: where it is missing no rules are loaded.',
          unit: 'none',
          width: 24,
          height: 6,
          absent: 'no rules are loaded',
          rows: { cluster_name: 'Cluster', alertname: 'Alert', severity: 'Severity', alertstate: 'State' },
          columns: [
            {
              title: 'Of them',
              query:
                'count by (cluster_name, alertname, severity, alertstate) (ALERTS{alertname=~"Lifeboat.*|Watchdog"})',
              unit: 'short',
            },
          ],
        }),
        seriesPanel({
          id: 15,
          title: 'Failed hooks and notifications within a day',
          description: 'Commands around jobs that failed, and receivers that were not reached.',
          unit: 'short',
          width: 12,
          absent: 'none configured, or unknown',
          targets: [
            {
              query: 'sum by (cluster_name, hook) (increase(lifeboat_hook_failures_total[1d]))',
              legend: '{{cluster_name}} hook {{hook}}',
            },
            {
              query: 'sum by (cluster_name, target) (increase(lifeboat_notification_failures_total[1d]))',
              legend: '{{cluster_name}} to {{target}}',
            },
          ],
        }),
        seriesPanel({
          id: 16,
          title: 'Since a notification arrived',
          description: 'Since each receiver was last reached.',
          unit: 's',
          width: 12,
          absent: 'none configured, or unknown',
          targets: [
            {
              query: age('max by (cluster_name, target) (lifeboat_notification_last_success_timestamp_seconds)'),
              legend: '{{cluster_name}} {{target}}',
            },
          ],
        }),
        seriesPanel({
          id: 24,
          title: 'Since alerts were shown to arrive',
          description: 'Since a drill last came through to its receiver, and how long that may be ago.',
          unit: 's',
          width: 12,
          absent: 'never, no drills, or unknown',
          targets: [
            {
              query: age('max by (cluster_name) (lifeboat_alert_path_last_proven_timestamp_seconds)'),
              legend: '{{cluster_name}}',
            },
            {
              query: 'max by (cluster_name) (lifeboat_policy_alert_path_max_age_seconds)',
              legend: '{{cluster_name}} limit',
            },
          ],
        }),
        timelinePanel({
          id: 25,
          title: 'Drills of alerts',
          description: 'While a drill goes on the alert LifeboatAlertDrill fires.',
          unit: 'none',
          width: 12,
          absent: 'no drills, or unknown',
          targets: [
            {
              query: 'max by (cluster_name) (lifeboat_alert_drill_started_timestamp_seconds > bool 0)',
              legend: '{{cluster_name}}',
            },
          ],
          judgement: 'plain',
          words: { 0: ['none', colours.plain], 1: ['goes on', 'blue'] },
        }),
      ],
    },
    {
      title: 'Buckets',
      panels: [
        seriesPanel({
          id: 17,
          title: 'Requests to buckets',
          description: 'They are what the provider bills.',
          unit: 'reqps',
          width: 8,
          absent: 'no bucket, or unknown',
          targets: [
            { query: rate('lifeboat_s3_requests_total'), legend: '{{cluster_name}} {{repository}} {{operation}}' },
          ],
        }),
        seriesPanel({
          id: 18,
          title: 'Failed requests to buckets',
          description: 'Refused, not answered in time, or broken off; also if a retry went well.',
          unit: 'reqps',
          width: 8,
          absent: 'no bucket, or unknown',
          targets: [
            {
              query: rate('lifeboat_s3_request_errors_total'),
              legend: '{{cluster_name}} {{repository}} {{operation}}',
            },
          ],
        }),
        seriesPanel({
          id: 19,
          title: 'Foreign objects',
          description:
            'Objects in the part of a bucket that belongs to the cluster, that nothing of Lifeboat has made. The log names a few.',
          unit: 'short',
          width: 8,
          absent: 'no bucket, or unknown',
          targets: [
            {
              query: `max by (${byRepository}) (lifeboat_repository_foreign_objects)`,
              legend: '{{cluster_name}} {{repository}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Lifeboat itself',
      panels: [
        tablePanel({
          id: 20,
          title: 'Versions',
          description: 'Lifeboat of each sidecar.',
          unit: 'none',
          width: 12,
          height: 6,
          rows: {
            cluster_name: 'Cluster',
            instance: 'Sidecar',
            version: 'Version',
            revision: 'Commit',
            node_version: 'Node.js',
          },
          columns: [
            {
              title: 'Runs',
              query: `max by (${byInstance}, version, revision, node_version) (${ofSidecars('lifeboat_build_info')})`,
              unit: 'none',
              words: { 1: ['yes', colours.good] },
            },
          ],
        }),
        tablePanel({
          id: 21,
          title: 'Clusters',
          description: 'As last seen. Another system identifier is another cluster: initdb, or pg_upgrade.',
          unit: 'none',
          width: 12,
          height: 6,
          rows: { cluster_name: 'Cluster', system_identifier: 'System identifier', server_version: 'PostgreSQL' },
          columns: [
            {
              title: 'Seen',
              query: 'max by (cluster_name, system_identifier, server_version) (lifeboat_cluster_info)',
              unit: 'none',
              words: { 1: ['yes', colours.plain] },
            },
          ],
        }),
        seriesPanel({
          id: 22,
          title: 'Memory',
          description: 'Resident, of each sidecar.',
          unit: 'bytes',
          width: 12,
          targets: [
            {
              query: `max by (${byInstance}) (${ofSidecars('process_resident_memory_bytes')})`,
              legend: '{{cluster_name}} {{instance}}',
            },
          ],
        }),
        seriesPanel({
          id: 23,
          title: 'Processor',
          description: 'Share of one core, of each sidecar, without the programs that it starts.',
          unit: 'percentunit',
          width: 12,
          targets: [
            {
              query: `max by (${byInstance}) (${ofSidecars('rate(process_cpu_seconds_total[$__rate_interval])')})`,
              legend: '{{cluster_name}} {{instance}}',
            },
          ],
        }),
      ],
    },
  ],
})
