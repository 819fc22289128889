/**
 * A past that a cluster could have had, as the series that its sidecar would have served: believable days for pictures and for
 * benchmarks. It is made of numbers alone, the same each time; test/previews/past.test.ts holds its names and labels against
 * those of a real sidecar.
 */
export interface Story {
  readonly cluster: string
  readonly databases: readonly { readonly name: string; readonly bytes: number }[]
  /** Moments in seconds since 1970 from which on something is so; left out: never. */
  readonly dumpsFailFrom?: number
  readonly archiverFailsFrom?: number
  /** The bucket cannot be reached. */
  readonly offsiteDownFrom?: number
  /** The verification of this night found the newest dump of the first database damaged. */
  readonly foundBadFrom?: number
  /** The sidecar was scraped for the last time. */
  readonly silentFrom?: number
}

/** A series of a scrape. `null`: the sidecar did not serve it at that moment. */
export interface PastSeries {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly at: (time: number) => number | null
}

export const day = 86_400
const hour = 3_600
const minute = 60
const gigabyte = 1e9
const repositories = ['local', 'offsite'] as const
const segment = 16 * 1024 * 1024

/** A number from 0 to 1 that is the same each time, for a place in time and a purpose. */
function noise(place: number, purpose: string): number {
  let hash = 2_166_136_261 ^ Math.floor(place)
  for (const character of purpose) hash = Math.imul(hash ^ character.charCodeAt(0), 16_777_619)
  hash = Math.imul(hash ^ (hash >>> 15), 2_246_822_507)
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32
}

/** More work by day than by night, from 0 to 1. */
const busy = (time: number) => 0.55 - 0.45 * Math.cos(((time - 2 * hour) / day) * 2 * Math.PI)

/** What happens every day (or every so many), at a moment of it, for a while. */
interface Daily {
  readonly offset: number
  readonly takes: (start: number) => number
  readonly every?: number
}

/** The newest start at or before the moment. */
function startOf({ offset, every = day }: Daily, time: number): number {
  return Math.floor((time - offset) / every) * every + offset
}

/** When the newest run that is over by then began. */
function ended(daily: Daily, time: number): number {
  const start = startOf(daily, time)
  return start + daily.takes(start) <= time ? start : start - (daily.every ?? day)
}

const endOf = (daily: Daily, start: number) => start + daily.takes(start)

export function pastOf(story: Story): readonly PastSeries[] {
  const series: PastSeries[] = []
  const { cluster, databases } = story
  const never = Number.POSITIVE_INFINITY
  const add = (name: string, labels: Record<string, string>, at: PastSeries['at'] | number) => {
    const value = typeof at === 'number' ? () => at : at
    const silentFrom = story.silentFrom ?? never
    series.push({
      name: `lifeboat_${name}`,
      labels: { cluster_name: cluster, ...labels },
      at: (time) => (time >= silentFrom ? null : value(time)),
    })
  }
  const seed = Math.floor(noise(7, cluster) * 40) * minute
  const [dumpsFailFrom = never, archiverFailsFrom = never, offsiteDownFrom = never, foundBadFrom = never] = [
    story.dumpsFailFrom,
    story.archiverFailsFrom,
    story.offsiteDownFrom,
    story.foundBadFrom,
  ]
  /** Until when a repository could be looked at. */
  const seen = (repository: string, time: number) => (repository === 'offsite' ? Math.min(time, offsiteDownFrom) : time)

  const total = databases.reduce((sum, { bytes }) => sum + bytes, 0)
  const grown = (bytes: number, time: number) => bytes * (1 + 0.0015 * ((time / day) % 400))
  const took = (bytes: number, megabytesPerSecond: number) => (start: number) =>
    20 + (grown(bytes, start) / 1e6 / megabytesPerSecond) * (0.9 + 0.2 * noise(start, cluster))
  const dumps = databases.map(({ name, bytes }, index) => ({
    name,
    bytes,
    run: { offset: hour + seed + index * 20 * minute, takes: took(bytes, 90) } satisfies Daily,
  }))
  const full: Daily = { offset: 3 * day + 3 * hour + seed, every: 7 * day, takes: took(total, 140) }
  const incremental: Daily = { offset: 3 * hour + seed, takes: took(total / 8, 140) }
  const verified = { offset: 4.5 * hour + seed, takes: took(total, 60) } satisfies Daily
  const expired: Daily = { offset: 6 * hour + seed, takes: () => 6 }

  add('cluster_info', { system_identifier: '7500000000000000001', server_version: '17.6 (Debian 17.6-1)' }, 1)
  add('up', {}, 1)

  const collectors = ['server', 'repository:local', 'repository:offsite', 'history', 'encryption']
  for (const collector of collectors) {
    const failsFrom = collector === 'repository:offsite' ? offsiteDownFrom : never
    const slow = collector === 'repository:offsite' ? 0.9 : 0.06
    add('collector_success', { collector }, (time) => (time < failsFrom ? 1 : 0))
    add('collector_duration_seconds', { collector }, (time) =>
      time < failsFrom ? slow * (0.8 + 0.4 * noise(time / (10 * minute), collector + cluster)) : 30,
    )
    add('collector_last_success_timestamp_seconds', { collector }, (time) => Math.min(time, failsFrom) - 20)
    add('policy_collector_max_age_seconds', { collector }, 210)
  }

  for (const repository of repositories) {
    const bucket = repository === 'offsite'
    const look = (time: number) => seen(repository, time)
    const of = { repository }
    add('repository_up', of, (time) => (look(time) === time ? 1 : 0))
    add('lease_held', of, 1)
    add('retention_blocked', of, 0)
    add('backups_held', of, bucket ? 1 : 0)
    add('policy_retention_seconds', of, 30 * day)
    add('policy_recovery_window_seconds', of, 14 * day)

    for (const { name: database, bytes, run } of dumps) {
      const backup = { repository, backup_type: 'dump', database }
      const newest = (time: number) => ended(run, Math.min(look(time), dumpsFailFrom))
      const size = (start: number) => grown(bytes, start) * (0.21 + 0.012 * noise(start, database))
      add('backup_last_success_timestamp_seconds', backup, (time) => endOf(run, newest(time)))
      add('backup_last_duration_seconds', backup, (time) => run.takes(newest(time)))
      add('backup_last_size_bytes', backup, (time) => size(newest(time)))
      add('backup_last_source_bytes', backup, (time) => grown(bytes, newest(time)))
      add('backup_deviation_ratio', backup, (time) => size(newest(time)) / size(newest(time) - 3 * day))
      add('backup_unusual', backup, 0)
      const isBad = (time: number) => time >= foundBadFrom && database === databases[0]?.name && !bucket
      const tested = (time: number) => ended(verified, isBad(time) ? foundBadFrom - 1 : look(time))
      add('backup_proven_timestamp_seconds', backup, (time) => endOf(run, ended(run, tested(time))))
      for (const level of ['artifact', 'restore', 'data']) {
        const factor = { artifact: 0.2, restore: 0.5, data: 0.8 }[level] ?? 1
        const own = { ...backup, level }
        add(
          'verification_last_success_timestamp_seconds',
          own,
          (time) => tested(time) + verified.takes(tested(time)) * factor,
        )
        add('verification_last_duration_seconds', own, (time) => took(bytes, 60)(ended(verified, look(time))) * factor)
        for (const verdict of ['pass', 'fail', 'inconclusive'])
          add('verification_last_result', { ...own, result: verdict }, (time) => {
            const bad = isBad(time) && level !== 'artifact'
            return verdict === (bad ? 'fail' : 'pass') ? 1 : 0
          })
      }
    }
    const physical = [
      { type: 'full', run: full, bytes: total * 0.34 },
      { type: 'incremental', run: incremental, bytes: total * 0.02 },
    ]
    for (const { type, run, bytes } of physical) {
      const backup = { repository, backup_type: type, database: '' }
      const newest = (time: number) => ended(run, look(time))
      add('backup_last_success_timestamp_seconds', backup, (time) => endOf(run, newest(time)))
      add('backup_last_duration_seconds', backup, (time) => run.takes(newest(time)))
      add(
        'backup_last_size_bytes',
        backup,
        (time) => grown(bytes, newest(time)) * (0.9 + 0.2 * noise(newest(time), type)),
      )
      add('backup_last_source_bytes', backup, (time) => grown(total, newest(time)))
      add('backup_deviation_ratio', backup, (time) => 0.94 + 0.12 * noise(newest(time), type))
      add('backup_unusual', backup, 0)
      const tested = (time: number) => ended(verified, look(time))
      add('backup_proven_timestamp_seconds', backup, (time) => endOf(run, ended(run, tested(time))))
      for (const level of ['artifact', 'restore', 'data']) {
        add('verification_last_success_timestamp_seconds', { ...backup, level }, (time) =>
          endOf(verified, tested(time)),
        )
        add('verification_last_duration_seconds', { ...backup, level }, (time) => verified.takes(tested(time)) / 4)
        for (const result of ['pass', 'fail', 'inconclusive'])
          add('verification_last_result', { ...backup, level, result }, result === 'pass' ? 1 : 0)
      }
    }
    const kinds = [
      { type: 'dump', kept: 30 * databases.length, bytes: total * 0.215 * 30, run: dumps[0]?.run ?? full },
      { type: 'full', kept: 5, bytes: total * 0.34 * 5, run: full },
      { type: 'incremental', kept: 26, bytes: total * 0.02 * 26, run: incremental },
    ]
    for (const { type, kept, bytes, run } of kinds) {
      const whole = (time: number) => (endOf(run, startOf(run, look(time))) <= look(time) ? 1 : 0)
      const waits = (time: number) => (startOf(expired, time) > startOf(run, time) ? 0 : whole(time))
      add(
        'backups',
        { repository, backup_type: type },
        (time) => kept + waits(time) * (type === 'dump' ? databases.length : 1),
      )
      add(
        'backups_size_bytes',
        { repository, backup_type: type },
        (time) => grown(bytes, ended(run, look(time))) * (1 + waits(time) / kept),
      )
      add('backup_oldest_timestamp_seconds', { repository, backup_type: type }, (time) =>
        ended(run, ended(expired, look(time)) - 30 * day),
      )
    }
    for (const state of ['incomplete', 'invalid']) add('backups_unusable', { repository, state }, 0)

    if (bucket) {
      for (const check of [
        'versioning',
        'object_lock',
        'lock_duration',
        'lifecycle',
        'public_access',
        'encryption',
        'tls',
      ])
        add('repository_posture', { repository, check }, 1)
      add('repository_foreign_objects', of, 0)
      for (const state of ['pending', 'completed', 'failed'])
        add('repository_replicated_backups', { repository, state }, (time) => {
          const waiting = look(time) - startOf(incremental, look(time)) < hour ? 1 : 0
          return { pending: waiting, completed: 10 - waiting, failed: 0 }[state] ?? 0
        })
      for (const [operation, daily] of [
        ['PutObject', 2_400],
        ['GetObject', 900],
        ['ListObjectsV2', 2_880],
      ] as const) {
        const count = (time: number) => Math.floor(((time % (90 * day)) / day) * daily + 40 * busy(time))
        add('s3_requests_total', { repository, operation }, count)
        add('s3_request_errors_total', { repository, operation }, (time) =>
          Math.max(0, Math.floor((time - offsiteDownFrom) / 12)),
        )
      }
    } else {
      const capacity = 2 ** 40 * (total > 500 * gigabyte ? 16 : 2)
      add('repository_capacity_bytes', of, capacity)
      add('repository_free_bytes', of, (time) => {
        const since = (time - endOf(full, ended(full, time))) / (7 * day)
        return capacity * 0.52 - total * (0.3 * since + 0.05 * busy(time))
      })
    }
    add(
      'repository_monthly_cost_dollars',
      of,
      (time) => (bucket ? 18 : 4) * (0.4 + (grown(total, time) / gigabyte) * 0.004),
    )
    add('policy_monthly_cost_dollars', of, (bucket ? 18 : 4) * (0.8 + (total / gigabyte) * 0.006))

    // WAL is received while it is written: seconds are missing, and more on the way to the bucket.
    const reached = (time: number) => {
      const until = Math.min(look(time), archiverFailsFrom)
      const behind = 4 + 9 * noise(until / (10 * minute), repository + cluster)
      return until - behind * (bucket ? 5 : 1) * (1.6 - busy(until))
    }
    add('recovery_point_timestamp_seconds', of, reached)
    add('recovery_window_start_timestamp_seconds', of, (time) => endOf(full, ended(full, time) - 28 * day))
    add('recovery_exposure_bytes', of, (time) => Math.round((time - reached(time)) * 90_000 * busy(time)))
    add(
      'recovery_predicted_seconds',
      of,
      (time) => (bucket ? 1.9 : 1) * (120 + grown(total, startOf(verified, time)) / 120e6),
    )
    add('wal_segments', of, (time) => Math.floor(38_000 + 3_000 * (((time - full.offset) % (7 * day)) / (7 * day))))
    add('wal_size_bytes', of, (time) => 210 * gigabyte * (1 + 0.08 * (((time - full.offset) % (7 * day)) / (7 * day))))
    add(
      'wal_backlog_bytes',
      of,
      (time) => Math.floor(Math.max(0, time - Math.min(look(time), archiverFailsFrom)) / 40) * segment,
    )
    add('wal_missing_segments', of, 0)
    add('wal_quarantined_files', of, 0)
    const walUntil = (time: number) => Math.min(look(time), archiverFailsFrom)
    add('wal_shipped_segments_total', of, (time) => written(walUntil(time)))
    add(
      'wal_ship_failures_total',
      of,
      (time) => Math.floor((time - walUntil(time)) / 30) * (time > offsiteDownFrom ? 1 : 0),
    )
    add(
      'wal_ship_delay_seconds',
      of,
      (time) => (bucket ? 1.8 : 0.3) * (0.7 + 0.8 * noise(walUntil(time) / (15 * minute), repository)),
    )
  }

  for (const { name: database, run } of dumps) {
    add('policy_backup_max_age_seconds', { backup_type: 'dump', database }, 26 * hour)
    add('backup_last_failure_timestamp_seconds', { backup_type: 'dump', database }, (time) => {
      const old = startOf(run, time - 17 * day) - 11 * day + 90
      return time < dumpsFailFrom ? old : startOf(run, time) >= dumpsFailFrom ? startOf(run, time) + 35 : old
    })
  }
  add('policy_backup_max_age_seconds', { backup_type: 'full', database: '' }, 8 * day)
  add('policy_backup_max_age_seconds', { backup_type: 'incremental', database: '' }, 26 * hour)
  add('policy_backup_grow_above_ratio', {}, 1.5)
  add('policy_backup_shrink_below_ratio', {}, 0.7)
  add('policy_rpo_seconds', {}, 900)
  add('policy_rto_seconds', {}, Math.max(hour, Math.ceil(total / 25e6 / 1800) * 1800))
  add('policy_verification_max_age_seconds', {}, 2 * day)
  add('policy_slot_retained_bytes', {}, 10 * 1024 ** 3)

  const lastDump = dumps.at(-1)?.run ?? full
  const jobs: readonly { readonly job: string; readonly run: Daily }[] = [
    {
      job: 'dump',
      run: {
        offset: dumps[0]?.run.offset ?? 0,
        takes: (start) => start + lastDump.offset - (dumps[0]?.run.offset ?? 0) + lastDump.takes(start) - start,
      },
    },
    { job: 'full', run: full },
    { job: 'incremental', run: incremental },
    { job: 'verify', run: verified },
    { job: 'expire', run: expired },
  ]
  for (const { job, run } of jobs) {
    const failsFrom = job === 'dump' ? dumpsFailFrom : never
    const runs = (time: number) => Math.floor(((time - run.offset) % (91 * day)) / (run.every ?? day))
    add('job_running', { job }, (time) =>
      time < startOf(run, time) + (startOf(run, time) >= failsFrom ? 35 : run.takes(startOf(run, time))) ? 1 : 0,
    )
    add('job_progress_ratio', { job }, (time) => {
      const part = (time - startOf(run, time)) / run.takes(startOf(run, time))
      return part < 1 ? part : null
    })
    add('job_runs_total', { job }, runs)
    add('job_failures_total', { job }, (time) =>
      time < failsFrom ? 1 : 1 + Math.max(0, Math.ceil((time - failsFrom) / day)),
    )
    add('job_last_start_timestamp_seconds', { job }, (time) => startOf(run, time))
    add('job_last_success_timestamp_seconds', { job }, (time) => endOf(run, ended(run, Math.min(time, failsFrom))))
    add('job_last_duration_seconds', { job }, (time) =>
      startOf(run, time) >= failsFrom ? 35 : run.takes(ended(run, time)),
    )
    add('job_next_run_timestamp_seconds', { job }, (time) => startOf(run, time) + (run.every ?? day))
    add('policy_job_timeout_seconds', { job }, job === 'expire' ? hour : 12 * hour)
  }

  for (const state of ['off', 'idle', 'archiving', 'lagging', 'failing', 'hung', 'lying'])
    add('wal_archiver_state', { state }, (time) =>
      state === (time < archiverFailsFrom + 20 ? 'archiving' : 'failing') ? 1 : 0,
    )
  add('wal_archived_segments_total', {}, (time) => written(Math.min(time, archiverFailsFrom)))
  add('wal_archive_failures_total', {}, (time) => 3 + Math.max(0, Math.floor((time - archiverFailsFrom) / 20)))
  const waiting = (time: number) =>
    2 +
    Math.floor(4 * busy(time) * noise(time / (15 * minute), 'archive')) +
    Math.max(0, Math.floor((time - offsiteDownFrom) / 40))
  add('wal_archive_segments', {}, waiting)
  add('wal_archive_size_bytes', {}, (time) => waiting(time) * segment)
  add('wal_archive_capacity_bytes', {}, 200 * gigabyte)
  add('wal_archive_free_bytes', {}, (time) => 197 * gigabyte - waiting(time) * segment)
  add('wal_archive_last_segment_timestamp_seconds', {}, (time) => {
    const until = Math.min(time, archiverFailsFrom)
    return until - (until % (300 - Math.floor(210 * busy(until))))
  })
  add('wal_stream_up', {}, 1)
  add('wal_stream_failures_total', {}, 0)
  add('wal_stream_holes_total', {}, 0)
  const slots = [
    ['lifeboat', 4 * segment],
    ['standby1', 20 * segment],
  ] as const
  for (const [slot, bytes] of slots) {
    add(
      'replication_slot_retained_bytes',
      { slot },
      (time) => bytes * (0.5 + busy(time) * noise(time / (15 * minute), slot)),
    )
    add('replication_slot_active', { slot }, 1)
    add('replication_slot_lost', { slot }, 0)
  }
  const drilled: Daily = { offset: 9 * hour + seed, every: 7 * day, takes: () => 80 }
  add('alert_path_last_proven_timestamp_seconds', {}, (time) => endOf(drilled, ended(drilled, time)))
  add('alert_drill_started_timestamp_seconds', {}, (time) =>
    time < endOf(drilled, startOf(drilled, time)) ? startOf(drilled, time) : 0,
  )
  add('policy_alert_path_max_age_seconds', {}, 9 * day)
  add('hook_failures_total', { hook: 'freeze' }, 0)
  add('notification_failures_total', { target: 'ops' }, 0)
  add('notification_last_success_timestamp_seconds', { target: 'ops' }, (time) =>
    endOf(verified, ended(verified, time)),
  )
  return series
}

/** Segments that the server has finished until then: about one in two minutes by night, one a minute and more by day. */
function written(time: number): number {
  const within = time % (90 * day)
  return Math.floor(within / 90 - 130 * Math.sin(((time - 2 * hour) / day) * 2 * Math.PI))
}

/** Of the sidecar itself, what Prometheus adds included. */
export function processOf(story: Story): readonly PastSeries[] {
  const alive = (value: (time: number) => number) => (time: number) =>
    time >= (story.silentFrom ?? Number.POSITIVE_INFINITY) ? null : value(time)
  return [
    {
      name: 'lifeboat_build_info',
      labels: { version: '0.1.0', revision: 'abc1234', node_version: 'v24.21.0' },
      at: alive(() => 1),
    },
    {
      name: 'process_resident_memory_bytes',
      labels: {},
      at: alive((time) => 92e6 + 14e6 * noise(time / (7 * minute), story.cluster)),
    },
    {
      name: 'process_cpu_seconds_total',
      labels: {},
      at: alive((time) => (time % (90 * day)) * 0.011 - 90 * Math.sin(((time - 2 * hour) / day) * 2 * Math.PI)),
    },
  ]
}
