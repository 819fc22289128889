import { type AlertGroup, condition, lasted, log, there, what } from './alert.ts'

const place = 'cluster_name, repository, backup_type'

/**
 * Old enough to have been verified: since the limit, or half of the time for which backups stay, where that is less. A long
 * `for` would begin anew with each scrape that fails.
 */
const hadItsTime = `(lifeboat_backup_oldest_timestamp_seconds < on (cluster_name) group_left () (time() - max by (cluster_name) (lifeboat_policy_verification_max_age_seconds)) or lifeboat_backup_oldest_timestamp_seconds < on (cluster_name, repository) group_left () (time() - 0.5 * max by (cluster_name, repository) (lifeboat_policy_retention_seconds)))`

export const verification: AlertGroup = {
  name: 'lifeboat.verification',
  about: 'Whether backups were proven by restoring them',
  alerts: [
    {
      alert: 'LifeboatVerificationFailed',
      expr: condition('Found bad'),
      for: '0s',
      slowly: true,
      summary: `${there}: a ${what} was found to be bad`,
      description:
        'It failed its verification at the level {{ $labels.level }}: it would not bring back what was saved. It holds until a later one passes.',
      first: `${log('verification ended')}, then \`lifeboat backup\` for a new one`,
      dashboard: 'verification',
      panel: 4,
    },
    {
      alert: 'LifeboatVerificationInconclusive',
      expr: condition('Test without a result'),
      for: '1h',
      summary: `${there}: the verification of a ${what} had no result`,
      description:
        'At the level {{ $labels.level }} something is missing on the machine that verifies: a program, an extension, a key, room. The backup may be good, and nothing proves it.',
      first: `\`lifeboat check\`, and ${log('verification ended')} names the cause`,
      dashboard: 'verification',
      panel: 4,
    },
    {
      alert: 'LifeboatVerificationNever',
      expr: `(${condition('Never proven')}) and on (${place}) ${hadItsTime}`,
      for: '1h',
      summary: `${there}: no ${what} was ever restored to prove it`,
      description:
        'There are backups that are old enough to have been verified, and none was proven. What was never restored is a hope.',
      first: '`lifeboat verify`',
      dashboard: 'verification',
      panel: 4,
    },
    {
      alert: 'LifeboatVerificationOverdue',
      expr: condition('Verification too old'),
      for: '1h',
      summary: `${there}: no ${what} was proven for too long`,
      description: `The last restore that worked was ${lasted} ago, more than lifeboat_policy_verification_max_age_seconds allows.`,
      first: '`lifeboat verify`',
      dashboard: 'verification',
      panel: 6,
    },
  ],
}
