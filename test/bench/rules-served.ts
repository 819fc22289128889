/** What the golden file shows in its bad state, made well: firing alerts are few, and rounds are paid for by looking. */
const well: readonly (readonly [series: RegExp, value: number])[] = [
  [/^lifeboat_(?:up|collector_success|repository_up|repository_posture|lease_held)\{/, 1],
  [/^lifeboat_(?:wal_stream_up|replication_slot_active)\{/, 1],
  [/^lifeboat_backup_(?:deviation_ratio)\{/, 1],
  [/^lifeboat_(?:backup_unusual|backups_unusable|retention_blocked|wal_quarantined_files|wal_missing_segments)\{/, 0],
  [
    /^lifeboat_(?:repository_foreign_objects|replication_slot_lost|job_running|alert_drill_started_timestamp_seconds)\{/,
    0,
  ],
  [/^lifeboat_wal_archiver_state\{.*state="idle"/, 1],
  [/^lifeboat_wal_archiver_state\{/, 0],
  [/^lifeboat_external_files\{.*state="sound"/, 1],
  [/^lifeboat_external_files\{/, 0],
  [/^lifeboat_verification_last_result\{.*result="pass"/, 1],
  [/^lifeboat_verification_last_result\{/, 0],
]

/** The golden file as a healthy cluster serves it at a moment; made once, since who serves it shares the processors. */
export function servingOf(golden: string): (cluster: string, now: number) => string {
  const parts: (string | number)[] = ['']
  const add = (text: string) => {
    const last = parts.length - 1
    parts[last] = `${parts[last]}${text}`
  }
  for (const line of [...golden.split('\n'), ...proofsOf(golden)]) {
    const [, series = '', value = ''] = /^(lifeboat_.*) (\S+)$/.exec(line) ?? []
    const healthy = well.find(([pattern]) => pattern.test(series))
    const later = series === '' || healthy !== undefined ? null : secondsFromNow(series)
    if (later === null) add(`${series === '' ? line : `${series} ${healthy?.[1] ?? value}`}\n`)
    else {
      add(`${series} `)
      parts.push(later, '\n')
    }
  }
  return (cluster, now) =>
    parts
      .map((part) => (typeof part === 'number' ? now + part : part))
      .join('')
      .replaceAll('cluster_name="spavix"', `cluster_name="${cluster}"`)
}

/** Well within every limit, and the last failure before the last success. Null for what is no moment. */
function secondsFromNow(series: string): number | null {
  if (series.includes('next_run_timestamp_seconds')) return 3600
  if (series.includes('last_failure_timestamp_seconds')) return -7200
  if (series.includes('collector_last_success')) return -30
  if (!series.includes('_timestamp_seconds')) return null
  return series.includes('start') ? -1200 : -600
}

/** Each last success is proven where all is well; the golden file has a proof of one. */
function proofsOf(golden: string): readonly string[] {
  return [...golden.matchAll(/^lifeboat_backup_last_success_timestamp_seconds(\{.*\}) (\S+)$/gm)]
    .map(([, labels = '', value = '']) => `lifeboat_backup_proven_timestamp_seconds${labels} ${value}`)
    .filter((line) => !golden.includes(line.slice(0, line.lastIndexOf(' '))))
}
