/** Hooks and notifications; see `metricDefinitions`. */
export const tellingDefinitions = {
  lifeboat_hook_failures_total: {
    family: 'tellings',
    type: 'counter',
    unit: 'failures',
    labels: ['hook'],
    help: 'Commands around jobs that failed, since the start of the process.',
  },
  lifeboat_notification_last_success_timestamp_seconds: {
    family: 'tellings',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['target'],
    help: 'When a notification was last delivered. No series before the first one of the process.',
  },
  lifeboat_notification_failures_total: {
    family: 'tellings',
    type: 'counter',
    unit: 'failures',
    labels: ['target'],
    help: 'Notifications that were given up or dropped, since the start of the process.',
  },
} as const
