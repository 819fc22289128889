/** A question that the metrics answer. */
export interface ExampleQuery {
  readonly name: string
  readonly tells: string
  /** PromQL. */
  readonly query: string
}

const byBackup = 'cluster_name, repository, backup_type, database'
const byDatabase = 'cluster_name, backup_type, database'
const required = `max by (${byDatabase}) (lifeboat_policy_backup_max_age_seconds)`
/** What other tools write goes into no repository. */
const own = `max by (${byDatabase}) (lifeboat_policy_backup_max_age_seconds{backup_type!="external"})`
/** Limits that hold for all of a cluster. */
const limit = (metric: string) => `max by (cluster_name) (lifeboat_policy_${metric})`
/** Of one or two sidecars: for the other side of `and` and `unless`, and for what is aggregated afterwards. */
const eachPolicy = 'lifeboat_policy_backup_max_age_seconds'
const eachNewest = 'lifeboat_backup_last_success_timestamp_seconds'
/** Dumps of other tools. */
const newestExternal = `${eachNewest}{backup_type="external"}`
const eachProven = 'lifeboat_backup_proven_timestamp_seconds'
const eachPoint = 'lifeboat_recovery_point_timestamp_seconds'
const newest = `max by (${byBackup}) (${eachNewest})`
const proven = `max by (${byBackup}) (${eachProven})`
const olderThanAllowed = (types: string, labels: string) =>
  `(time() - max by (${byBackup}) (${eachNewest}{backup_type${types}})) > on (${labels}) group_left () max by (${labels}) (${eachPolicy}{backup_type${types}})`
/** Sizes compared with the usual ones. A swing that is usual is none, and one of which nobody knows that is one. */
const deviation = `lifeboat_backup_deviation_ratio unless on (${byBackup}) max by (${byBackup}) (lifeboat_backup_unusual) == 0`
const small = (ratio: string) =>
  `min by (${byBackup}) (${ratio}) < on (cluster_name) group_left () ${limit('backup_shrink_below_ratio')}`
const large = (ratio: string) =>
  `max by (${byBackup}) (${ratio}) > on (cluster_name) group_left () ${limit('backup_grow_above_ratio')}`
const rpo = 'max by (cluster_name) (lifeboat_policy_rpo_seconds)'
const repositoryUp = 'max by (cluster_name, repository) (lifeboat_repository_up)'
const recoveryPoint = (labels: string) => `max by (${labels}) (${eachPoint})`
const verdict = (result: string) =>
  `max by (${byBackup}, level) (lifeboat_verification_last_result{result="${result}"} == 1)`
/**
 * A target has a label `job` of its own: unless it is told to honour ours (`honor_labels`), Prometheus calls that
 * `exported_job`.
 */
const named = (query: string) => `label_replace(${query}, "job", "$1", "exported_job", "(.+)")`
const ofJob = (metric: string) => `max by (cluster_name, job) (${named(metric)})`

const running = `max by (cluster_name, job) (${named('lifeboat_job_running == 1')})`

const aheadOf = (moment: string) => `max by (cluster_name) (${moment} > time() + 60) - time()`

/**
 * Conditions that want somebody's attention, and nothing while all is well. What is compared is aggregated, since two
 * sidecars may watch one cluster. Where the word of one of them is enough it is compared first: little is left to aggregate.
 */
export const conditions: readonly ExampleQuery[] = [
  {
    name: 'Sidecar gone',
    tells: 'Clusters that were watched within the last day and are not now.',
    query:
      'group by (cluster_name) (last_over_time(lifeboat_policy_rpo_seconds[1d])) unless group by (cluster_name) (lifeboat_policy_rpo_seconds)',
  },
  {
    name: 'Server down',
    tells: 'Clusters whose server does not answer.',
    query: 'max by (cluster_name) (lifeboat_up) == 0',
  },
  {
    name: 'Repository down',
    tells: 'Repositories that cannot be read.',
    query: `${repositoryUp} == 0`,
  },
  {
    name: 'Collector failing',
    tells: 'Parts of the picture that are not being refreshed.',
    query: 'max by (cluster_name, collector) (lifeboat_collector_success{collector!="encryption"}) == 0',
  },
  {
    name: 'Key unreadable',
    tells: 'Clusters of which a sidecar cannot use the keys of the encryption any more.',
    query: 'min by (cluster_name) (lifeboat_collector_success{collector="encryption"} == 0)',
  },
  {
    name: 'Backup too old',
    tells: 'Databases whose newest backup in a repository is older than the policy allows.',
    query: olderThanAllowed('!="external"', byDatabase),
  },
  {
    name: 'Watched dump too old',
    tells: 'Databases whose newest whole dump of another tool is older than the policy allows.',
    query: olderThanAllowed('="external"', 'cluster_name, database'),
  },
  {
    name: 'Never backed up',
    tells:
      'Databases that have no backup anywhere. Give it a `for` of as long as a new database may wait for its first one.',
    query: `max by (${byDatabase}) (${eachPolicy} unless on (${byDatabase}) ${eachNewest})`,
  },
  {
    name: 'Never backed up there',
    tells:
      'Repositories that lack a backup of some database; the value is the number of databases that they do have. With a `for`, too.',
    query: `(count by (cluster_name, repository) (max by (${byBackup}) (${eachNewest} and on (${byDatabase}) ${eachPolicy}{backup_type!="external"})) or (${repositoryUp} == 1) * 0) < on (cluster_name) group_left () count by (cluster_name) (${own})`,
  },
  {
    name: 'Last attempt failed',
    tells: 'Databases whose backup failed after the last one that worked.',
    query: `max by (${byDatabase}) (lifeboat_backup_last_failure_timestamp_seconds) > min by (${byDatabase}) (max by (${byBackup}) (${eachNewest} and on (${byDatabase}) ${eachPolicy}))`,
  },
  {
    name: 'Objective missed',
    tells:
      'Clusters that would lose more work right now than the objective allows, recovered from their best repository.',
    query: `(time() - ${recoveryPoint('cluster_name')}) > ${rpo}`,
  },
  {
    name: 'Behind another',
    tells:
      'Repositories from which a recovery would lose more than from the best one, by more than the objective allows.',
    query: `(${recoveryPoint('cluster_name')} - on (cluster_name) group_right () ${recoveryPoint('cluster_name, repository')}) > on (cluster_name) group_left () ${rpo}`,
  },
  {
    name: 'Cannot be recovered',
    tells:
      'Clusters of which no repository can bring back everything. It belongs beside the two above, which say nothing then; give it a `for`.',
    query: `max by (cluster_name) (lifeboat_policy_rpo_seconds and on (cluster_name) lifeboat_repository_up unless on (cluster_name) ${eachPoint})`,
  },
  {
    name: 'Cannot be recovered from there',
    tells: 'Repositories that cannot bring back everything.',
    query: `max by (cluster_name, repository) (lifeboat_repository_up unless on (cluster_name, repository) ${eachPoint})`,
  },
  {
    name: 'Never proven',
    tells: 'Databases of whose backups in a repository none was restored with success.',
    query: `max by (${byBackup}) (${eachNewest} and on (${byDatabase}) ${eachPolicy} unless on (${byBackup}) ${eachProven})`,
  },
  {
    name: 'Verification too old',
    tells: 'Databases whose last successful test restore is older than the policy allows.',
    query: `(time() - max by (${byBackup}) (lifeboat_verification_last_success_timestamp_seconds{level="restore"})) > on (cluster_name) group_left () max by (cluster_name) (lifeboat_policy_verification_max_age_seconds)`,
  },
  {
    name: 'Found bad',
    tells: 'Backups that were tested and found bad.',
    query: verdict('fail'),
  },
  {
    name: 'Test without a result',
    tells: 'Tests that could not be brought to an end, and so say nothing.',
    query: verdict('inconclusive'),
  },
  {
    name: 'Unusable backups',
    tells: 'Folders in a repository that hold no backup or a damaged one.',
    query: 'max by (cluster_name, repository, state) (lifeboat_backups_unusable > 0)',
  },
  {
    name: 'Rows unusual',
    tells:
      'Databases whose newest backup has the usual size, and unusually few or many rows: the log names the tables.',
    query: `max by (${byBackup}) (lifeboat_backup_unusual == 1) unless on (${byBackup}) (${small(deviation)}) unless on (${byBackup}) (${large(deviation)})`,
  },
  {
    name: 'Watched dump broken',
    tells: 'Watched directories with files that cannot be restored. It holds until they are moved away or deleted.',
    query:
      'max by (cluster_name, repository, state) (lifeboat_external_files{state=~"empty|truncated|wrong-format|corrupt|unreadable"} > 0)',
  },
  {
    name: 'Watched directory empty',
    tells: 'Watched directories without any whole dump; ages have no series then, and so no alert.',
    query: 'max by (cluster_name, repository) (lifeboat_backups{backup_type="external"}) == 0',
  },
  {
    name: 'Watched database gone',
    tells: 'Databases that had dumps in a watched directory within the last week and have none now.',
    // Of a directory that is not watched any more, or cannot be seen, nothing is gone.
    query: `max by (${byBackup}) (last_over_time(${newestExternal}[7d]) unless on (cluster_name, repository, database) ${newestExternal} and on (cluster_name, repository) lifeboat_backups{backup_type="external"})`,
  },
  {
    name: 'Backup shrank',
    tells: 'Newest backups that are far smaller than usual; the log names the tables, or the file (`unusually small`).',
    query: small(deviation),
  },
  {
    name: 'Backup grew',
    tells: 'Newest backups that are far larger than usual; the log names the tables, or the file (`unusually large`).',
    query: large(deviation),
  },
  {
    name: 'Nobody writes',
    tells:
      'Repositories whose lease no running sidecar has: all of them stand by, for one that was not asked or is gone.',
    query: 'max by (cluster_name, repository) (lifeboat_lease_held) == 0',
  },
  {
    name: 'Hook failed',
    tells: 'Commands around jobs that failed within the last day.',
    query: 'sum by (cluster_name, hook) (increase(lifeboat_hook_failures_total[1d]) > 0)',
  },
  {
    name: 'Not told',
    tells: 'Receivers that a notification of the last day did not reach.',
    query: 'sum by (cluster_name, target) (increase(lifeboat_notification_failures_total[1d]) > 0)',
  },
  {
    name: 'Repository nearly full',
    tells: 'Repositories with less than a tenth of their space left.',
    query:
      'min by (cluster_name, repository) (lifeboat_repository_free_bytes / lifeboat_repository_capacity_bytes < 0.1)',
  },
  {
    name: 'Over budget',
    tells: 'Repositories whose estimated cost of a month is more than `monthlyBudget` allows.',
    query:
      'max by (cluster_name, repository) (lifeboat_repository_monthly_cost_dollars) > max by (cluster_name, repository) (lifeboat_policy_monthly_cost_dollars)',
  },
  {
    name: 'Expiry blocked',
    tells: 'Repositories in which nothing expires until somebody has looked: `lifeboat expire --dry-run` says why.',
    query: 'max by (cluster_name, repository) (lifeboat_retention_blocked == 1)',
  },
  {
    name: 'Job stuck',
    tells: 'Jobs that go on although their time is over.',
    query: `(time() - ${ofJob('lifeboat_job_last_start_timestamp_seconds')}) > ${ofJob('lifeboat_policy_job_timeout_seconds')} and ${running}`,
  },
  {
    name: 'Clock ahead',
    tells:
      "Clusters with backups or looks from the future: the sidecar's clock or Prometheus's is wrong, and no age can be trusted.",
    query: `${aheadOf('lifeboat_backup_last_success_timestamp_seconds')} or ${aheadOf('lifeboat_collector_last_success_timestamp_seconds')}`,
  },
]

/** Values to look at. */
export const figures: readonly ExampleQuery[] = [
  {
    name: 'Age of the proof',
    tells: 'Age of the newest backup that is known to restore.',
    query: `time() - ${proven}`,
  },
  {
    name: 'Failed runs',
    tells: 'Failed runs of the last day.',
    query: `sum by (cluster_name, job) (${named('increase(lifeboat_job_failures_total[1d])')})`,
  },
]

/** Parts of these that dashboards are made of, too. */
export {
  byBackup,
  byDatabase,
  deviation,
  named,
  newest,
  newestExternal,
  ofJob,
  own,
  proven,
  recoveryPoint,
  repositoryUp,
  required,
  rpo,
  running,
}
