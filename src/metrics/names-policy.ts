/** Limits from the configuration; see `metricDefinitions`. */
export const policyDefinitions = {
  lifeboat_policy_backup_grow_above_ratio: {
    family: 'policy',
    type: 'gauge',
    unit: 'ratio',
    labels: [],
    help: 'Above this share of what is usual a backup is unusually large (growth.growAbove), unless such swings are usual.',
  },
  lifeboat_policy_backup_max_age_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: ['backup_type', 'database'],
    help: 'Age at which the newest backup is too old: one series for each database that must be backed up.',
  },
  lifeboat_policy_backup_shrink_below_ratio: {
    family: 'policy',
    type: 'gauge',
    unit: 'ratio',
    labels: [],
    help: 'Below this share of what is usual a backup is unusually small (growth.shrinkBelow), unless such swings are usual.',
  },
  lifeboat_policy_job_timeout_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: ['job'],
    help: 'How long a run of the job may take; then it is ended. One that still goes on is stuck.',
  },
  lifeboat_policy_retention_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: ['repository'],
    help: 'How long every backup stays at least (keepFor). No series where nothing ever expires.',
  },
  lifeboat_policy_rpo_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: [],
    help: 'Recovery point objective: how much recent work may be lost.',
  },
  lifeboat_policy_rto_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: [],
    help: 'Recovery time objective: how long a recovery may take.',
  },
  lifeboat_policy_verification_max_age_seconds: {
    family: 'policy',
    type: 'gauge',
    unit: 'seconds',
    labels: [],
    help: 'Age at which the last successful verification is too old.',
  },
} as const
