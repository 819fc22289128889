/** The WAL and its archive; see `metricDefinitions`. */
export const walDefinitions = {
  lifeboat_wal_archiver_state: {
    family: 'wal',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['state'],
    help: 'How the server archives its WAL: one of the states is 1. `off`, `idle` (nothing waits), `archiving`, `lagging` (16 files wait, or one for five minutes), `failing`, `hung` (archive_command has not returned for a minute), `lying` (a file counts as archived and is not in the archive). No series before the first look, and while the role may not see what waits (`pg_monitor`).',
  },
  lifeboat_wal_archived_segments_total: {
    family: 'wal',
    type: 'counter',
    unit: 'segments',
    labels: [],
    help: 'Files that the server has archived, since its statistics were reset.',
  },
  lifeboat_wal_archive_failures_total: {
    family: 'wal',
    type: 'counter',
    unit: 'failures',
    labels: [],
    help: 'Attempts to archive a file that failed, since the statistics of the server were reset.',
  },
  lifeboat_wal_archive_segments: {
    family: 'wal',
    type: 'gauge',
    unit: 'segments',
    labels: [],
    help: 'Whole segments in the archive directory, of all timelines. Partial ones and those that are being written do not count.',
  },
  lifeboat_wal_archive_size_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: [],
    help: 'Length of all files in the archive directory.',
  },
  lifeboat_wal_archive_free_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: [],
    help: 'Free space on the disk of the archive directory.',
  },
  lifeboat_wal_archive_capacity_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: [],
    help: 'Size of the disk of the archive directory.',
  },
  lifeboat_wal_archive_last_segment_timestamp_seconds: {
    family: 'wal',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: [],
    help: 'When the newest segment of the newest timeline was written to the archive directory. On an idle server it grows old: nothing is wrong then.',
  },
} as const
