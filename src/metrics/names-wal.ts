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
  lifeboat_wal_shipped_segments_total: {
    family: 'wal',
    type: 'counter',
    unit: 'segments',
    labels: ['repository'],
    help: 'Whole segments that were put into this repository, since the start of the process.',
  },
  lifeboat_wal_ship_failures_total: {
    family: 'wal',
    type: 'counter',
    unit: 'failures',
    labels: ['repository'],
    help: 'Attempts to ship to this repository that failed, since the start of the process. Each is made again.',
  },
  lifeboat_wal_quarantined_files: {
    family: 'wal',
    type: 'gauge',
    unit: 'files',
    labels: ['repository'],
    help: 'Files of the archive that are not stored in this repository, since they are damaged, of another cluster, or other bytes than those that are stored under their name.',
  },
  lifeboat_wal_ship_delay_seconds: {
    family: 'wal',
    type: 'gauge',
    unit: 'seconds',
    labels: ['repository'],
    help: 'From the writing of the newest shipped segment to the archive until it was stored in this repository. No series before one was shipped.',
  },
} as const
