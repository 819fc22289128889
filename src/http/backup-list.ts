import { type BackupType, isExternalId, parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { BackupSummary, Catalog, RepositoryState, UnusableBackup } from '../observe/catalog.ts'
import { keeperOfCollector, keepersOf } from '../observe/questions.ts'
import { HttpError } from './problem.ts'

/** A backup and where it is. */
export interface ListedBackup {
  readonly backup: BackupSummary
  readonly repository: RepositoryState
}

export interface BackupFilter {
  readonly type?: BackupType
  readonly database?: string
  readonly repository?: string
}

/** All backups of a catalog: newest first, ties by id and repository, so that the order is total and pages fit together. */
export type Listing = (catalog: Catalog) => readonly ListedBackup[]

/** A listing that remembers: a catalog never changes, so it is sorted once, however often it is asked for. */
export function createListing(): Listing {
  const sorted = new WeakMap<Catalog, readonly ListedBackup[]>()
  return (catalog) => {
    const known = sorted.get(catalog)
    if (known !== undefined) return known
    const all = keepersOf(catalog).flatMap((repository) => repository.backups.map((backup) => ({ backup, repository })))
    all.sort((a, b) => comparePositions(positionOf(a), positionOf(b)))
    sorted.set(catalog, all)
    return all
  }
}

/** Selects one page. `next` is null on the last one. */
export function pageOfBackups(
  sorted: readonly ListedBackup[],
  filter: BackupFilter,
  limit: number,
  after: string | undefined,
): { readonly page: readonly ListedBackup[]; readonly next: string | null } {
  const start = after === undefined ? null : decodeCursor(after)
  const page: ListedBackup[] = []
  for (const listed of sorted) {
    if (start !== null && comparePositions(positionOf(listed), start) <= 0) continue
    if (!fits(listed, filter)) continue
    const last = page.at(-1)
    if (page.length === limit && last) return { page, next: encodeCursor(positionOf(last)) }
    page.push(listed)
  }
  return { page, next: null }
}

/** Folders without a usable backup. Which database they were for is not known, so only the other filters apply. */
export function unusableBackups(
  catalog: Catalog,
  filter: BackupFilter,
): readonly (UnusableBackup & { repository: string })[] {
  return keepersOf(catalog)
    .filter(({ name }) => filter.repository === undefined || name === filter.repository)
    .flatMap(({ name, unusable }) => unusable.map((folder) => ({ repository: name, ...folder })))
    .filter(({ id }) => filter.type === undefined || typeOf(id) === filter.type)
}

function typeOf(id: string): BackupType | undefined {
  return isExternalId(id) ? 'external' : parseBackupId(id)?.type
}

/**
 * Makes sure that a repository exists, and (unless null) that it, or any if no repository is named, holds the backup.
 *
 * @throws LifeboatError `not-found`
 * @throws HttpError `not-ready` while the repository in question has never been read: "no such backup" would be a guess
 */
export function requireBackup(catalog: Catalog, repository: string | null, backup: string | null): void {
  const read = new Map(keepersOf(catalog).map((state) => [state.name, state]))
  // One that could never be read is known by its collector alone.
  const observed = catalog.collectors.map(({ collector }) => keeperOfCollector(collector))
  const known = new Set([...read.keys(), ...observed.filter((name) => name !== null)])
  if (repository !== null && !known.has(repository)) {
    if (known.size === 0) throw notReady()
    throw new LifeboatError('not-found', `there is no repository ${JSON.stringify(repository)}`, {
      hint: `configured are: ${[...known].map((name) => JSON.stringify(name)).join(', ')}`,
    })
  }
  if (backup === null) return
  const candidates = repository === null ? [...known] : [repository]
  const holds = (name: string) => {
    const state = read.get(name)
    // One with an unreadable manifest is there as well, and verifying it is how to learn what is wrong with it.
    return (
      state?.backups.some(({ id }) => id === backup) ||
      state?.unusable.some(({ id, state: why }) => id === backup && why === 'invalid')
    )
  }
  if (candidates.some(holds)) return
  if (candidates.length === 0 || candidates.some((name) => !read.has(name))) throw notReady()
  throw new LifeboatError(
    'not-found',
    `there is no backup ${backup}${repository === null ? '' : ` in ${repository}`}`,
    {
      hint: 'see /api/backups for those that exist',
    },
  )
}

function notReady(): HttpError {
  return new HttpError('not-ready', 'the repositories have not been read yet', 'ask again when /-/ready says so')
}

function fits({ backup, repository }: ListedBackup, filter: BackupFilter): boolean {
  return (
    (filter.type === undefined || backup.type === filter.type) &&
    (filter.database === undefined || backup.database === filter.database) &&
    (filter.repository === undefined || repository.name === filter.repository)
  )
}

type Position = readonly [startedAt: number, id: string, repository: string]

function positionOf({ backup, repository }: ListedBackup): Position {
  return [backup.startedAt.getTime(), backup.id, repository.name]
}

function comparePositions(a: Position, b: Position): number {
  if (a[0] !== b[0]) return b[0] - a[0]
  if (a[1] !== b[1]) return a[1] < b[1] ? 1 : -1
  return a[2] === b[2] ? 0 : a[2] < b[2] ? -1 : 1
}

function encodeCursor(position: Position): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

function decodeCursor(text: string): Position {
  try {
    const position: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'))
    if (Array.isArray(position) && position.length === 3) {
      const [startedAt, id, repository] = position as unknown[]
      if (typeof startedAt === 'number' && typeof id === 'string' && typeof repository === 'string') {
        return [startedAt, id, repository]
      }
    }
  } catch {
    // Not JSON: not one of ours either.
  }
  throw new LifeboatError('usage-invalid', 'the cursor in "after" is not one that this API gave', {
    hint: 'pass the "next" of the page before, unchanged',
  })
}
