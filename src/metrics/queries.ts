/** A question that the metrics answer. */
export interface ExampleQuery {
  readonly tells: string
  /** PromQL. */
  readonly query: string
}

/** Queries to begin with; both sides of a comparison are aggregated, so that two sidecars of one cluster do not clash. */
export const exampleQueries: readonly ExampleQuery[] = [
  {
    tells: 'Clusters that were watched within the last day and are not now.',
    query:
      'group by (cluster_name) (last_over_time(lifeboat_cluster_info[1d])) unless group by (cluster_name) (lifeboat_cluster_info)',
  },
  {
    tells: 'Parts of the picture that are not being refreshed.',
    query: 'max by (cluster_name, collector) (lifeboat_collector_success) == 0',
  },
  {
    tells: 'Databases whose newest backup in a repository is older than the policy allows.',
    query:
      '(time() - max by (cluster_name, repository, backup_type, database) (lifeboat_backup_last_success_timestamp_seconds)) > on (cluster_name, backup_type, database) group_left () max by (cluster_name, backup_type, database) (lifeboat_policy_backup_max_age_seconds)',
  },
  {
    tells: 'Age of the newest backup that is known to restore.',
    query:
      'time() - max by (cluster_name, repository, backup_type, database) (lifeboat_backup_proven_timestamp_seconds)',
  },
  {
    tells: 'Databases whose last successful test restore is older than the policy allows.',
    query:
      '(time() - max by (cluster_name, repository, backup_type, database) (lifeboat_verification_last_success_timestamp_seconds{level="restore"})) > on (cluster_name) group_left () max by (cluster_name) (lifeboat_policy_verification_max_age_seconds)',
  },
  {
    tells: 'Backups that were tested and found bad.',
    query:
      'max by (cluster_name, repository, backup_type, database, level) (lifeboat_verification_last_result{result="fail"}) == 1',
  },
  {
    tells: 'Clusters that would lose more work right now than the objective allows.',
    query:
      '(time() - max by (cluster_name) (lifeboat_recovery_point_timestamp_seconds)) > max by (cluster_name) (lifeboat_policy_rpo_seconds)',
  },
  {
    tells: 'Repositories that are nearly full.',
    query:
      'min by (cluster_name, repository) (lifeboat_repository_free_bytes / lifeboat_repository_capacity_bytes) < 0.1',
  },
  {
    tells: 'Failed runs of the last day.',
    query: 'sum by (cluster_name, job) (increase(lifeboat_job_failures_total[1d]))',
  },
  {
    tells: 'Databases that were never backed up.',
    query:
      'max by (cluster_name, backup_type, database) (lifeboat_policy_backup_max_age_seconds) unless max by (cluster_name, backup_type, database) (lifeboat_backup_last_success_timestamp_seconds)',
  },
]
