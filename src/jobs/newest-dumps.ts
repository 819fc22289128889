import type { Logger } from 'pino'
import { isDatedAhead, type Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { compareLsn } from '../domain/lsn.ts'
import type { Repository } from '../repository/repository.ts'

/** What a job asks the server that is looked after. */
export interface LiveServer {
  readonly systemIdentifier: string
  readonly databases: readonly string[]
}

export interface NewestOptions {
  readonly signal: AbortSignal
  readonly now: Date
  readonly log: Logger
  /** Ids of backups that are as if they were not there. */
  readonly without?: ReadonlySet<string>
}

/**
 * The newest complete dump of every database (or of those listed) of every cluster in a repository: by the place of its
 * snapshot in the WAL, never by its id and not by a clock, which may be wrong. Manifests that cannot be read are passed
 * over: they are no backups, and the catalog reports them. So are those that a wrong clock has dated into the future.
 */
export async function newestDumps(
  repository: Repository,
  databases: readonly string[] | null,
  { signal, now, log, without }: NewestOptions,
): Promise<readonly Manifest[]> {
  const newest = new Map<string, Manifest>()
  const ahead: string[] = []
  for await (const id of repository.listBackups({ signal })) {
    if (without?.has(id)) continue
    const manifest = await readableManifest(repository, id, signal)
    const name = manifest?.database?.name
    if (manifest === null || name === undefined || (databases !== null && !databases.includes(name))) continue
    if (isDatedAhead([new Date(manifest.start.time), new Date(manifest.stop.time)], now)) {
      ahead.push(id)
      continue
    }
    const key = `${manifest.systemIdentifier} ${name}`
    const known = newest.get(key)
    if (known === undefined || compareDumps(known, manifest) < 0) newest.set(key, manifest)
  }
  if (ahead.length > 0) {
    const about = { repository: repository.name, backups: ahead, note: 'clock-ahead' }
    log.warn(about, 'backups that are dated into the future are left out: name one by its id to use it all the same')
  }
  return [...newest.values()]
}

/** Order of dumps of one database of one cluster, oldest first; see `compareBackups` of the catalog. */
export function compareDumps(a: Manifest, b: Manifest): number {
  return (
    a.timeline - b.timeline ||
    compareLsn(a.start.lsn, b.start.lsn) ||
    Date.parse(a.start.time) - Date.parse(b.start.time) ||
    (a.backupId < b.backupId ? -1 : a.backupId > b.backupId ? 1 : 0)
  )
}

/**
 * Those of the server's own cluster: a repository may also hold backups of a cluster that was there before initdb or
 * pg_upgrade, or of another one that was given the same name. When the server cannot be asked (null), all must be of one.
 *
 * @throws LifeboatError `server-unreachable` when the server would have to say which of several clusters is meant
 */
export function ofLiveCluster(dumps: readonly Manifest[], systemIdentifier: string | null): readonly Manifest[] {
  if (systemIdentifier !== null) return dumps.filter((manifest) => manifest.systemIdentifier === systemIdentifier)
  if (new Set(dumps.map((manifest) => manifest.systemIdentifier)).size <= 1) return dumps
  throw new LifeboatError(
    'server-unreachable',
    'there are backups of several clusters, and no server says which is its',
    {
      hint: `name one by its id: ${listed(dumps)}`,
    },
  )
}

/** A hint that names the backups of other clusters, so that one of them can be asked for by its id; null if there is none. */
export function hintOfOthers(dumps: readonly Manifest[]): string | null {
  return dumps.length === 0 ? null : `there are backups of other clusters, to be named by their id: ${listed(dumps)}`
}

const maxListed = 10

function listed(dumps: readonly Manifest[]): string {
  const newestFirst = dumps.toSorted((a, b) => Date.parse(b.start.time) - Date.parse(a.start.time))
  const lines = newestFirst.map(
    ({ backupId, database, systemIdentifier }) =>
      `${backupId} (${database === null ? '' : `${JSON.stringify(database.name)} of `}cluster ${systemIdentifier})`,
  )
  const unique = [...new Set(lines)]
  const rest = unique.length - maxListed
  return unique.slice(0, maxListed).join(', ') + (rest > 0 ? `, and ${rest} more` : '')
}

/** Null for what is no backup; a repository that cannot be read says nothing about its backups, and fails. */
export async function readableManifest(
  repository: Repository,
  id: string,
  signal: AbortSignal,
): Promise<Manifest | null> {
  try {
    return await repository.readManifest(id, { signal })
  } catch (error) {
    signal.throwIfAborted()
    const { code } = toFailure(error)
    if (code === 'manifest-missing' || code === 'manifest-invalid') return null
    throw error
  }
}
