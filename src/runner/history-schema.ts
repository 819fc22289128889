import type { DatabaseSync } from 'node:sqlite'
import { LifeboatError } from '../domain/errors.ts'

/**
 * The schema, one step per version; `user_version` counts the steps done. A released step never changes: add another.
 *
 * Structured values are JSON text. `seq` gives the order of runs: ids only have seconds, and clocks are set back.
 */
const steps: readonly string[] = [
  `
  create table runs (
    seq integer primary key autoincrement,
    id text not null unique,
    job text not null,
    lane text not null,
    params text not null,
    trigger text not null,
    requested_by text not null,
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    requested_at text not null,
    started_at text,
    finished_at text,
    duration_ms real,
    progress text,
    failure text,
    cancel_requested integer not null default 0,
    pid integer not null,
    process_start text not null,
    boot_id text not null
  ) strict;
  create unique index runs_unfinished on runs (job, params) where state in ('queued', 'running');
  create index runs_by_job on runs (job, seq);
  create index runs_by_state on runs (state, seq);

  create table items (
    run integer not null references runs (seq) on delete cascade,
    position integer not null,
    item text not null,
    primary key (run, position)
  ) strict, without rowid;

  -- Who works in a lane. Not a state of the run: a stuck job holds its lane after its run has got a verdict.
  create table lanes (
    lane text primary key,
    run text not null,
    pid integer not null,
    process_start text not null,
    boot_id text not null
  ) strict, without rowid;

  -- Kept apart from the runs, so that pruning takes nothing from a counter.
  create table job_totals (
    job text primary key,
    runs integer not null default 0,
    failures integer not null default 0,
    last_start_at text,
    last_success_at text,
    last_duration_ms real
  ) strict, without rowid;

  create table backup_failures (
    backup_type text not null,
    database text not null,
    at text not null,
    failure text not null,
    primary key (backup_type, database)
  ) strict, without rowid;
  `,
  `
  -- Which repository a name stood for: an unmounted disk looks like an empty one.
  create table repositories (
    repository text not null,
    cluster text not null,
    id text not null,
    primary key (repository, cluster)
  ) strict, without rowid;
  `,
  `
  -- What must outlive a restart, as JSON text by name: what was last seen of the server.
  create table facts (
    name text primary key,
    value text not null
  ) strict, without rowid;
  `,
  `
  -- Processes of several containers: their pids mean nothing to each other, so each shows that it lives.
  alter table runs add column pid_namespace text not null default '';
  alter table lanes add column pid_namespace text not null default '';
  create table owners (
    pid integer not null,
    process_start text not null,
    boot_id text not null,
    pid_namespace text not null,
    beat_at text not null,
    primary key (pid, process_start, boot_id, pid_namespace)
  ) strict, without rowid;
  `,
  `
  -- What was found in files of other tools, and about them: nothing is written beside those.
  create table inspections (
    watch text not null,
    name text not null,
    identity text not null,
    found text not null,
    primary key (watch, name)
  ) strict, without rowid;
  create table external_proofs (
    id text not null,
    finished_at text not null,
    proof text not null,
    primary key (id, finished_at)
  ) strict, without rowid;
  `,
  `
  -- How the commands around the job fared: a list, null before the verdict.
  alter table runs add column hooks text;
  `,
  `
  -- How often parts of the run were tried again, and after what: null when nothing was.
  alter table runs add column retries text;
  `,
  `
  -- Files of other tools that somebody wants kept.
  create table external_holds (
    id text primary key,
    hold text not null
  ) strict, without rowid;
  `,
  `
  -- The clock of the WAL, in the order of its samples: moments (milliseconds since 1970) and places (16 hexadecimal digits).
  create table lsn_clock (
    seq integer primary key autoincrement,
    system_identifier text not null,
    timeline integer not null,
    state text,
    lsn text not null,
    last_lsn text not null,
    segment_size integer not null,
    at integer not null,
    least_at integer not null,
    went_back integer not null
  ) strict;
  create index lsn_clock_by_place on lsn_clock (system_identifier, timeline, lsn, seq);
  create index lsn_clock_set_back on lsn_clock (system_identifier, seq) where went_back = 1;
  `,
  `
  -- The WAL that repositories hold, so that a restart need not list it: by runs of segments, bound to one repository.
  create table wal_index (
    repository text not null,
    cluster text not null,
    identity text not null,
    listed_at text,
    sizes text not null,
    primary key (repository, cluster)
  ) strict, without rowid;
  create table wal_shelves (
    repository text not null,
    cluster text not null,
    system text not null,
    timeline integer not null,
    shelf integer not null,
    ranges text not null,
    bytes integer not null,
    partials text not null,
    contradictions text not null,
    primary key (repository, cluster, system, timeline, shelf)
  ) strict, without rowid;
  -- What of it was read to the end, and what was found to be bad.
  create table wal_verified (
    repository text not null,
    cluster text not null,
    system text not null,
    timeline integer not null,
    identity text not null,
    ranges text not null,
    primary key (repository, cluster, system, timeline)
  ) strict, without rowid;
  create table wal_bad (
    repository text not null,
    cluster text not null,
    system text not null,
    name text not null,
    hash text not null,
    identity text not null,
    problem text not null,
    detail text not null,
    found_at text not null,
    primary key (repository, cluster, system, name, hash)
  ) strict, without rowid;
  `,
]

export const schemaVersion = steps.length

/**
 * Brings the database to the current schema, in one transaction: of several processes that open a new file at once, one
 * does the work.
 * @throws LifeboatError `storage-failed` when a newer Lifeboat has written the file.
 */
export function migrate(db: DatabaseSync): void {
  // Even when nothing is to be done: SQLite opens what it may not write without a word, and this tells.
  db.exec('begin immediate')
  try {
    const found = readVersion(db)
    if (found > schemaVersion) {
      throw new LifeboatError('storage-failed', `state file has schema version ${found}, newer than ${schemaVersion}`, {
        hint: 'Run the version of Lifeboat that wrote it, or a newer one.',
        details: { found, supported: schemaVersion },
      })
    }
    for (const step of steps.slice(found)) db.exec(step)
    db.exec(`pragma user_version = ${schemaVersion}`)
    db.exec('commit')
  } catch (error) {
    if (db.isTransaction) db.exec('rollback')
    throw error
  }
}

function readVersion(db: DatabaseSync): number {
  return Number(db.prepare('pragma user_version').get()?.user_version)
}
