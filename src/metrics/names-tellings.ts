/** Hooks, notifications and drills of alerts; see `metricDefinitions`. */
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
  lifeboat_alert_drill_started_timestamp_seconds: {
    family: 'tellings',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: [],
    help: 'When the drill of an alert that goes on began: the rule LifeboatAlertDrill fires. 0 while there is none, no series where none is configured.',
  },
  lifeboat_alert_path_last_proven_timestamp_seconds: {
    family: 'tellings',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: [],
    help: 'When a drill last showed that an alert reaches its receiver. No series before the first time.',
  },
  lifeboat_notification_failures_total: {
    family: 'tellings',
    type: 'counter',
    unit: 'failures',
    labels: ['target'],
    help: 'Notifications that were given up or dropped, since the start of the process.',
  },
} as const
