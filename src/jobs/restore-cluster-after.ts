import { lchown, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { historyName } from '../domain/wal.ts'
import type { Asking } from '../fetch/ask.ts'
import { fetchWal } from '../fetch/fetch-wal.ts'
import { makeOwnedDirectory, writeOwned } from '../physical/owned-files.ts'
import { historiesFolder, type RecoveryFiles, reachedFile } from '../physical/recovery-files.ts'
import { type OsUser, runProgram } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'

export interface HistoriesOptions extends Asking {
  readonly repositories: readonly Repository[]
  readonly systemIdentifier: string
  readonly owner: OsUser | null
}

/**
 * Notes that the target was reached, and keeps the histories of all timelines that are stored: when the server is promoted,
 * some day, it must take one that nobody had.
 */
export async function keepHistories(folder: string, options: HistoriesOptions): Promise<void> {
  const { repositories, systemIdentifier, owner, signal } = options
  const directory = join(folder, historiesFolder)
  await makeOwnedDirectory(directory, owner)
  const names = new Set<string>()
  for (const { wal } of repositories)
    for await (const { kind, name } of wal.listPlain(systemIdentifier, { signal }))
      if (kind === 'history') names.add(name)
  for (const name of names) {
    const path = join(directory, name)
    const isThere = await fetchWal(name, path, { ...options, hashes: [], missingIsEnd: false })
    if (isThere && owner !== null) await lchown(path, owner.uid, owner.gid)
  }
  await writeOwned(join(folder, reachedFile), '', owner)
}

/**
 * Has the history of its new timeline archived as soon as the server archives at all. PostgreSQL marks it when it is
 * promoted, unless it archives nothing just then, as a copy does; without that file nobody gets from the old timeline to the
 * new one, nor recovers on that at all.
 */
export async function markHistory(dataDirectory: string, timeline: number, owner: OsUser | null): Promise<void> {
  const path = join(dataDirectory, 'pg_wal', 'archive_status', `${historyName(timeline)}.ready`)
  await writeOwned(path, '', owner)
}

/** Gets one segment as the server will, as its OS user. Gives what would be in the way, in words. */
export async function tryFetching(
  { folder, lifeboat, config }: RecoveryFiles,
  {
    dataDirectory,
    owner,
    segment,
    signal,
  }: {
    readonly dataDirectory: string
    readonly owner: OsUser | null
    readonly segment: string
    readonly signal: AbortSignal
  },
): Promise<readonly string[]> {
  const target = join(folder, 'trial')
  try {
    const args = ['wal', 'fetch', segment, target, `--config=${config}`]
    await runProgram({ program: lifeboat, args, user: owner, cwd: dataDirectory, signal })
    return []
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof LifeboatError)) throw error
    const who = owner === null ? 'a server' : `a server of the OS user ${owner.name}`
    return [
      `${who} cannot fetch WAL by itself, and would not start: ${error.message}. Let it read the repositories and run lifeboat, or restore with --start`,
    ]
  } finally {
    await rm(target, { force: true })
  }
}
