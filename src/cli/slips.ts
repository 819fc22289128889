import type { Core } from '../core.ts'
import { isExternalId, type Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { whichAnswer } from '../fetch/answering.ts'
import type { Asking } from '../fetch/ask.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Repository } from '../repository/repository.ts'

/*
 * What an operator mistypes is refused before there is a run: a run that fails stands in the history and in the metrics,
 * and may wake somebody. What cannot be told now (a server or a disk that does not answer) is left to the run.
 */

export interface Wanted {
  readonly backup: string | null
  readonly database: string | null
  readonly repository: string | null
}

/**
 * Gives a manifest of the backup, or any one of the database, in the repositories that are asked; null where that cannot
 * be told.
 *
 * @throws LifeboatError `usage-invalid`, `not-found`
 */
export async function findBackup(
  { repositories }: Pick<Core, 'repositories'>,
  { backup, database, repository }: Wanted,
  asking: Asking,
): Promise<Manifest | null> {
  const { signal } = asking
  if (backup === null && database === null) return null
  // Files of other tools are found, or not, by the run.
  if (repositories.length === 0 || (backup !== null && isExternalId(backup))) return null
  const chosen = chooseRepositories(
    repositories.map((one) => one.repository),
    repository,
  )
  const { answering, silent } = await whichAnswer(chosen, asking)
  let told = silent.length === 0
  for (const one of answering) {
    try {
      for await (const id of backup === null ? one.listBackups({ signal }) : [backup]) {
        const manifest = await readable(one, id, signal)
        if (manifest !== null && (database === null || manifest.database?.name === database)) return manifest
      }
    } catch (error) {
      signal.throwIfAborted()
      if (toFailure(error).code === 'usage-invalid') throw error
      told = false
    }
  }
  if (!told) return null
  const what = backup === null ? `backup of the database ${JSON.stringify(database)}` : `backup ${backup}`
  throw new LifeboatError('not-found', `there is no ${what}`, { hint: '`lifeboat list` shows them' })
}

/** Null for what is no backup. One whose manifest is damaged is one, and the run will say what is wrong with it. */
async function readable(repository: Repository, id: string, signal: AbortSignal): Promise<Manifest | null> {
  try {
    return await repository.readManifest(id, { signal })
  } catch (error) {
    if (toFailure(error).code === 'manifest-missing') return null
    throw error
  }
}

/** @throws LifeboatError `database-missing` */
export async function refuseUnknownDatabase(
  source: ConnectionSource,
  { maintenanceDatabase, name, signal }: { maintenanceDatabase: string; name: string; signal: AbortSignal },
): Promise<void> {
  const names = await databaseNames(source, maintenanceDatabase, signal)
  if (names === null || names.includes(name)) return
  throw new LifeboatError('database-missing', `database ${JSON.stringify(name)} does not exist`, {
    hint: `there are: ${names
      .filter((one) => !one.startsWith('template'))
      .map((one) => JSON.stringify(one))
      .join(', ')}`,
  })
}

/**
 * Sees that the name is free, or, to be replaced, taken.
 *
 * @throws LifeboatError `conflict`, `not-found`
 */
export async function refuseUnfitTarget(
  source: ConnectionSource,
  {
    maintenanceDatabase,
    name,
    replace,
    signal,
  }: { maintenanceDatabase: string; name: string; replace: boolean; signal: AbortSignal },
): Promise<void> {
  const names = await databaseNames(source, maintenanceDatabase, signal)
  if (names === null || names.includes(name) === replace) return
  if (replace) {
    throw new LifeboatError('not-found', `there is no database ${JSON.stringify(name)} to replace`, {
      hint: 'restore without --replace',
    })
  }
  throw new LifeboatError('conflict', `a database ${JSON.stringify(name)} exists already`, {
    hint: 'choose another name with --to, or --replace to put the restored one in its place and keep the old one',
  })
}

/** Null when the server does not tell. */
async function databaseNames(
  source: ConnectionSource,
  database: string,
  signal: AbortSignal,
): Promise<readonly string[] | null> {
  try {
    const found = await withSession(source, { database, signal }, (session) =>
      session.query<{ name: string }>('select datname as name from pg_database order by datname'),
    )
    return found.map(({ name }) => name)
  } catch {
    signal.throwIfAborted()
    return null
  }
}
