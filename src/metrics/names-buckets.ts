/** Buckets; see `metricDefinitions`. */
export const bucketDefinitions = {
  lifeboat_repository_posture: {
    family: 'repositories',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['repository', 'check'],
    help: 'Whether the bucket of the repository is set up well, by what is looked at (docs/s3.md): 0 is a weakness, which lifeboat check explains. No series for what the keys may not read or the server does not have.',
  },
  lifeboat_repository_objects: {
    family: 'repositories',
    type: 'gauge',
    unit: 'objects',
    labels: ['repository'],
    help: 'Objects in the repository, or files of a directory, as the looks at it list them anyway. Of a bucket all below the name of the cluster; of a directory those of complete backups, proofs, holds and WAL. No series until all of the WAL was listed once.',
  },
  lifeboat_repository_foreign_objects: {
    family: 'repositories',
    type: 'gauge',
    unit: 'objects',
    labels: ['repository'],
    help: 'Objects in the part of a bucket that belongs to this cluster, but for its WAL, that nothing of Lifeboat has made; the log names a few. Of directories nobody counts them.',
  },
  lifeboat_repository_replicated_backups: {
    family: 'repositories',
    type: 'gauge',
    unit: 'backups',
    labels: ['repository', 'state'],
    help: 'How many of the ten newest backups the bucket has replicated by itself, by the state of their manifests: pending, completed, failed. No series where it replicates nothing.',
  },
  lifeboat_s3_requests_total: {
    family: 'repositories',
    type: 'counter',
    unit: 'requests',
    labels: ['repository', 'operation'],
    help: 'Requests that this process sent to a bucket, by the name that S3 has for them, retries included. They are what the provider bills.',
  },
  lifeboat_s3_request_errors_total: {
    family: 'repositories',
    type: 'counter',
    unit: 'requests',
    labels: ['repository', 'operation'],
    help: 'Requests of those that failed: refused, not answered in time, or broken off; also if a retry went well. "Not there" and "taken" are answers.',
  },
} as const
