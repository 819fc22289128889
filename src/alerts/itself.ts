import { type AlertGroup, cluster, condition, lasted, lastKnown, log } from './alert.ts'

const byCollector = (metric: string) => `max by (cluster_name, collector) (${metric})`

export const itself: AlertGroup = {
  name: 'lifeboat.itself',
  about: 'Whether all of the above can be believed: Lifeboat, its observers, the server, the clocks',
  memories: lastKnown('cluster:lifeboat_policy_rpo_seconds', 'lifeboat_policy_rpo_seconds', '1d'),
  alerts: [
    {
      alert: 'LifeboatAbsent',
      expr: 'absent(lifeboat_build_info)',
      for: '10m',
      summary: 'Prometheus knows of no Lifeboat',
      description: 'No sidecar is scraped, so no other alert of these can fire, except the Watchdog.',
      first: '`systemctl status lifeboat`, then the targets of Prometheus',
      dashboard: 'sidecar',
      panel: 1,
    },
    {
      alert: 'LifeboatClusterVanished',
      expr: condition('Sidecar gone'),
      for: '10m',
      summary: `${cluster} is not watched any more`,
      description: 'Within the last day there was a sidecar for it, and there is none now: no other alert tells of it.',
      first: '`systemctl status lifeboat`, and its log',
      dashboard: 'sidecar',
      panel: 1,
    },
    {
      alert: 'LifeboatExporterDown',
      expr: 'max by (job, instance) (up{job=~".*lifeboat.*"}) == 0',
      for: '5m',
      summary: 'Prometheus cannot scrape Lifeboat on {{ $labels.instance }}',
      description:
        'The process is gone or hangs, or something is between the two. Another sidecar may have taken over.',
      first: '`systemctl status lifeboat` there, and `curl http://127.0.0.1:10187/metrics`',
      dashboard: 'sidecar',
      panel: 1,
    },
    {
      alert: 'LifeboatServerDown',
      expr: condition('Server down'),
      for: '5m',
      summary: `${cluster}: the PostgreSQL server does not answer`,
      description: 'Lifeboat cannot connect to it: it makes no backups, and what is known of the server grows old.',
      first: `\`lifeboat check\`, and ${log('look failed')}`,
      dashboard: 'sidecar',
      panel: 2,
    },
    {
      alert: 'LifeboatCollectorFailing',
      expr: condition('Collector failing'),
      for: '15m',
      summary: `${cluster}: the state of {{ $labels.collector }} cannot be seen`,
      description: 'What the metrics say of it is what was seen last.',
      first: log('look failed'),
      dashboard: 'sidecar',
      panel: 9,
    },
    {
      alert: 'LifeboatCollectorStale',
      expr: `(time() - ${byCollector('lifeboat_collector_last_success_timestamp_seconds')}) > ${byCollector('lifeboat_policy_collector_max_age_seconds')} and on (cluster_name, collector) lifeboat_collector_success == 1`,
      for: '15m',
      summary: `${cluster}: nobody looks at {{ $labels.collector }} any more`,
      description: `The last look was ${lasted} ago, and none has failed since: Lifeboat stands still, or its clock is behind.`,
      first: '`systemctl status lifeboat`, then restart it',
      dashboard: 'sidecar',
      panel: 10,
    },
    {
      alert: 'LifeboatClockSkew',
      expr: condition('Clock ahead'),
      for: '15m',
      summary: `${cluster}: clocks disagree`,
      description: `Lifeboat is ${lasted} ahead of Prometheus: no age can be trusted, and nothing may expire.`,
      first: '`timedatectl` on both machines',
      dashboard: 'sidecar',
      panel: 10,
    },
  ],
}

/** What does not hear it any more raises the alarm: a heartbeat outside of all this. */
export const watchdog: AlertGroup = {
  name: 'lifeboat.watchdog',
  about: 'That alerts arrive at all',
  alerts: [
    {
      alert: 'Watchdog',
      expr: 'vector(1)',
      for: '0s',
      summary: 'Alerts arrive',
      description: 'It always fires. Where it stays away, Prometheus or Alertmanager is down.',
      first: 'none while it fires; else `systemctl status prometheus prometheus-alertmanager`',
      dashboard: 'overview',
    },
  ],
}
