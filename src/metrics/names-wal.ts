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
  lifeboat_wal_segments: {
    family: 'wal',
    type: 'gauge',
    unit: 'segments',
    labels: ['repository'],
    help: 'Whole segments that are stored in the repository, of all clusters that ever were there.',
  },
  lifeboat_wal_size_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: ['repository'],
    help: 'Size of the WAL in the repository, as it is stored.',
  },
  lifeboat_wal_backlog_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: ['repository'],
    help: 'Whole segments that the server has finished and the repository does not have yet: they are in the archive, or still to come there. No series while the WAL there, in the archive or on the server is not known; the same goes for the next two.',
  },
  lifeboat_wal_missing_segments: {
    family: 'wal',
    type: 'gauge',
    unit: 'segments',
    labels: ['repository'],
    help: 'Segments that are neither in the repository nor in the archive although later ones are, from the oldest physical backup on (without one: from the oldest WAL). No recovery gets past them. Acknowledged ones (`wal.holes`) do not count.',
  },
  lifeboat_recovery_exposure_bytes: {
    family: 'wal',
    type: 'gauge',
    unit: 'bytes',
    labels: ['repository'],
    help: 'WAL that the server had written when it was last seen, and that is not in the repository: what would be lost with the server. 0 also when nothing was committed in it.',
  },
} as const
