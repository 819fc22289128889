import { named, ofJob, running } from '../metrics/queries.ts'
import { type AlertGroup, cluster, condition, increased, lasted, log, remembered } from './alert.ts'

const started = ofJob('lifeboat_job_last_start_timestamp_seconds')
const succeeded = ofJob('lifeboat_job_last_success_timestamp_seconds')
/** Of those that are on a schedule: whoever starts one by hand sees how it ends. */
const next = ofJob('lifeboat_job_next_run_timestamp_seconds')
const durations = 'cluster_job:lifeboat_job_last_duration_seconds:15m'
/** The longest of a week. */
const longest = 'cluster_job:lifeboat_job_last_duration_seconds:week'

export const jobs: AlertGroup = {
  name: 'lifeboat.jobs',
  about: 'Jobs, commands around them, and notifications',
  recordings: [
    { record: 'cluster_job:lifeboat_job_last_start_timestamp_seconds:max', expr: started },
    { record: 'cluster_job:lifeboat_job_running:started', expr: running },
    increased('cluster_hook:lifeboat_hook_failures_total:increase', 'lifeboat_hook_failures_total'),
    increased('cluster_target:lifeboat_notification_failures_total:increase', 'lifeboat_notification_failures_total'),
  ],
  memories: [
    { record: durations, expr: 'lifeboat_job_last_duration_seconds' },
    { record: longest, expr: `max by (cluster_name, job) (${named(`max_over_time(${durations}[7d])`)})` },
  ],
  alerts: [
    {
      alert: 'LifeboatJobStuck',
      expr: condition('Job stuck'),
      for: '5m',
      summary: `${cluster}: the job {{ $labels.job }} is stuck`,
      description: `It has been running for ${lasted}, longer than lifeboat_policy_job_timeout_seconds, and was not ended.`,
      first: '`curl http://127.0.0.1:10187/api/runs?limit=5`, then restart the sidecar: the run is `interrupted`',
      dashboard: 'sidecar',
      panel: 8,
    },
    {
      alert: 'LifeboatJobSlow',
      expr: `(time() - ${started}) > clamp_min(2 * ${remembered(longest)}, 600) and ${running}`,
      for: '5m',
      summary: `${cluster}: the job {{ $labels.job }} takes unusually long`,
      description: `It has been running for ${lasted}, more than twice as long as any run of the last week. A dump often waits for a lock.`,
      first: log('run stands still'),
      dashboard: 'sidecar',
      panel: 5,
    },
    {
      alert: 'LifeboatJobFailing',
      expr: `(${started} > ${succeeded} or ${started} unless ${succeeded}) and ${next} unless ${running}`,
      for: '15m',
      summary: `${cluster}: the last run of the job {{ $labels.job }} failed`,
      description: 'It will run again by its schedule; until one works, what it is there for is not done.',
      first: '`curl http://127.0.0.1:10187/api/runs?limit=5` says why',
      dashboard: 'sidecar',
      panel: 5,
    },
    {
      alert: 'LifeboatJobOverdue',
      expr: `(time() - ${next}) > 600`,
      for: '5m',
      summary: `${cluster}: the job {{ $labels.job }} was not started when it was due`,
      description: `It was due ${lasted} ago. The scheduler stands still, or a clock is wrong.`,
      first: '`systemctl status lifeboat`, and its log',
      dashboard: 'sidecar',
      panel: 5,
    },
    {
      alert: 'LifeboatHookFailed',
      expr: condition('Hook failed'),
      for: '0s',
      slowly: true,
      summary: `${cluster}: the command {{ $labels.hook }} around a job failed`,
      description: 'It failed within the last day. One that comes before a job has kept that from running.',
      first: `${log('hook failed')} has its last words`,
      dashboard: 'sidecar',
      panel: 15,
    },
    {
      alert: 'LifeboatNotificationFailed',
      expr: condition('Not told'),
      for: '0s',
      slowly: true,
      summary: `${cluster}: {{ $labels.target }} was not told`,
      description: 'A notification of the last day was given up or dropped.',
      first: log('notification was not delivered'),
      dashboard: 'sidecar',
      panel: 15,
    },
  ],
}
