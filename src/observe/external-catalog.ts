import { createHash } from 'node:crypto'
import type { Inspection } from '../domain/external.ts'
import { type FileFacts, type FileState, fileStates, identityOf, isShrunken } from '../domain/external-file.ts'
import type { BackupSummary, HoldSummary, ProofSummary, RepositoryState, UnusableBackup } from './catalog.ts'

/** One file in a watched directory, as far as it is known. */
export interface KnownFile {
  readonly name: string
  /** `external-` and 16 hex: names may hold anything, ids may not. */
  readonly id: string
  readonly facts: FileFacts
  /** The time in its name, milliseconds since 1970; null where it has none. Tens of thousands of these are kept. */
  readonly namedAt: number | null
  readonly database: string
  readonly state: FileState
  readonly inspection: Inspection | null
}

/** What is shown of a file besides what every backup has. */
export interface ExternalDetails {
  readonly file: string
  readonly state: FileState
  readonly detail: string | null
  readonly format: Inspection['format']
  readonly compression: Inspection['compression']
  readonly notes: readonly 'shrunken'[]
}

/** A watched directory. Its files are asked for like the backups of a repository. */
export interface WatchState extends RepositoryState {
  readonly maxAgeSeconds: number
  readonly databases: readonly string[]
  readonly files: ReadonlyMap<FileState, number>
  /** Of a file by its id; null when there is none. Made when it is asked for. */
  readonly details: (id: string) => ExternalDetails | null
}

/** States in which a file is a backup, as far as anybody can tell. */
const backupStates: ReadonlySet<FileState> = new Set(['sound', 'unchecked'])
/** States in which a file is known to be no backup. */
const brokenStates: ReadonlySet<FileState> = new Set(['empty', 'truncated', 'wrong-format', 'corrupt'])

/** Whether it is known that nothing can be restored from a file in this state. */
export function restoresNothing(state: FileState): boolean {
  return brokenStates.has(state)
}

const unfinishedStates: ReadonlySet<FileState> = new Set(['growing', 'pending'])

/** What to do about a file that cannot be restored. */
export const brokenHint = 'look at what writes it, and take a new one: this one cannot be restored'

/** Files before one that tell what size is usual. */
const mostPredecessors = 10

export function externalId(watch: string, name: string): string {
  return `external-${createHash('sha256').update(`${watch}\0${name}`).digest('hex').slice(0, 16)}`
}

/** When the dump began, as far as is known: by its name, else by the file's time, which is its end. */
export function momentOf({ namedAt, facts }: Pick<KnownFile, 'namedAt' | 'facts'>): number {
  // A name in local time, or a file that was copied with its time: it cannot have begun after it was written.
  return Math.min(namedAt ?? facts.modified, facts.modified)
}

/** What the catalog holds of a file that is a backup. */
export function summaryOf(file: KnownFile): BackupSummary {
  const finishedAt = new Date(file.facts.modified)
  const startedAt = new Date(momentOf(file))
  return Object.freeze<BackupSummary>({
    id: file.id,
    type: 'external',
    database: file.database,
    // Nothing in the file says which cluster it is of.
    systemIdentifier: '',
    serverVersion: file.inspection?.serverVersion ?? '',
    startedAt,
    finishedAt,
    consistentAt: startedAt,
    timeline: 0,
    lsn: '0/0',
    startTimeline: 0,
    startLsn: '0/0',
    durationSeconds: startedAt < finishedAt ? (finishedAt.getTime() - startedAt.getTime()) / 1000 : null,
    storedBytes: file.inspection?.bytes ?? file.facts.bytes,
    ...{ plainBytes: null, objects: null, sourceBytes: null },
    warnings: 0,
    manifestChecksum: identityOf(file.facts),
    isEncrypted: false,
    parent: null,
  })
}

export interface WatchStateOptions {
  readonly name: string
  readonly maxAgeSeconds: number
  /** Where the configuration names one, it must have files although there are none yet. */
  readonly database: string | null
  readonly shrinkBelow: number
  readonly proofs: ReadonlyMap<string, readonly ProofSummary[]>
  /** Of files of any watch. */
  readonly holds: RepositoryState['holds']
  /** Made once for each file and kept. */
  readonly summary: (file: KnownFile) => BackupSummary
}

/** Puts together what is known of all files. The same list of backups as before comes out where nothing about them changed. */
export function watchState(
  files: Iterable<KnownFile>,
  { name, maxAgeSeconds, database, shrinkBelow, proofs, holds, summary }: WatchStateOptions,
  before: WatchState | null,
): WatchState {
  const counts = new Map<FileState, number>(fileStates.map((state) => [state, 0]))
  const backups: BackupSummary[] = []
  const unusable: UnusableBackup[] = []
  const databases = new Set<string>(database === null ? [] : [database])
  const known: KnownFile[] = []
  for (const file of files) {
    known.push(file)
    databases.add(file.database)
    counts.set(file.state, (counts.get(file.state) ?? 0) + 1)
    if (backupStates.has(file.state)) backups.push(summary(file))
    else unusable.push(unusableOf(file))
  }
  let byId: ReadonlyMap<string, KnownFile> | null = null
  let shrunken: ReadonlySet<string> | null = null
  return Object.freeze({
    name,
    backups: before !== null && isSameList(before.backups, backups) ? before.backups : Object.freeze(backups),
    unusable: Object.freeze(unusable),
    proofs: ownProofs(known, proofs, before),
    unreadProofs: new Set<string>(),
    holds: ownHolds(known, holds, before),
    uses: [],
    capacity: null,
    maxAgeSeconds,
    databases: Object.freeze([...databases].sort()),
    files: counts,
    details: (id: string) => {
      byId ??= new Map(known.map((file) => [file.id, file]))
      const file = byId.get(id)
      shrunken ??= findShrunken(known, shrinkBelow)
      return file === undefined ? null : detailsOf(file, shrunken)
    },
  })
}

/** A proof speaks of the bytes that were there; of a file that was replaced since it says nothing. */
function ownProofs(
  files: readonly KnownFile[],
  proofs: WatchStateOptions['proofs'],
  before: WatchState | null,
): WatchState['proofs'] {
  const own = new Map<string, readonly ProofSummary[]>()
  for (const { id, facts } of proofs.size === 0 ? [] : files) {
    const list = proofs.get(id)?.filter(({ manifestChecksum }) => manifestChecksum === identityOf(facts)) ?? []
    if (list.length > 0) own.set(id, list)
  }
  const isSame =
    before !== null &&
    before.proofs.size === own.size &&
    [...own].every(([id, list]) => {
      const former = before.proofs.get(id)
      return former?.length === list.length && list.every((proof, index) => proof === former[index])
    })
  return isSame ? before.proofs : own
}

/** The same object as before where nothing has changed. */
function ownHolds(
  files: readonly KnownFile[],
  holds: RepositoryState['holds'],
  before: WatchState | null,
): RepositoryState['holds'] {
  const own = new Map<string, HoldSummary>()
  for (const { id } of holds.size === 0 ? [] : files) {
    const hold = holds.get(id)
    if (hold !== undefined) own.set(id, hold)
  }
  const isSame = before?.holds.size === own.size && [...own].every(([id, hold]) => before.holds.get(id) === hold)
  return isSame ? before.holds : own
}

function unusableOf({ id, name, state, inspection }: KnownFile): UnusableBackup {
  if (unfinishedStates.has(state)) return Object.freeze({ id, state: 'in-progress' })
  const message = `${JSON.stringify(name)} is ${state}: ${inspection?.detail ?? 'it is too small'}`
  const hint =
    state === 'unreadable' ? 'let the OS user of lifeboat read it: nobody knows whether it is a backup' : brokenHint
  return { id, state: 'invalid', failure: { code: 'artifact-invalid', message, hint } }
}

export function detailsOf({ id, name, state, inspection }: KnownFile, shrunken: ReadonlySet<string>): ExternalDetails {
  return {
    file: name,
    state,
    detail: inspection?.detail ?? null,
    format: inspection?.format ?? null,
    compression: inspection?.compression ?? null,
    notes: shrunken.has(id) ? ['shrunken'] : [],
  }
}

/** Of each database the newest file, when it is far smaller than those before it. */
function findShrunken(files: readonly KnownFile[], share: number): ReadonlySet<string> {
  const groups = Map.groupBy(
    files.filter(({ state }) => backupStates.has(state)),
    ({ database }) => database,
  )
  const found = new Set<string>()
  for (const group of groups.values()) {
    const [newest, ...earlier] = newestOf(group, mostPredecessors + 1)
    if (
      newest !== undefined &&
      isShrunken(
        newest.facts.bytes,
        earlier.map(({ facts }) => facts.bytes),
        share,
      )
    ) {
      found.add(newest.id)
    }
  }
  return found
}

/** The newest files first, at most so many; without sorting tens of thousands of them. */
export function newestOf(files: readonly KnownFile[], most: number): readonly KnownFile[] {
  const newest: { readonly file: KnownFile; readonly at: number }[] = []
  for (const file of files) {
    const at = momentOf(file)
    if (newest.length >= most && at <= (newest.at(-1)?.at ?? 0)) continue
    const place = newest.findIndex((one) => one.at < at)
    newest.splice(place < 0 ? newest.length : place, 0, { file, at })
    if (newest.length > most) newest.pop()
  }
  return newest.map(({ file }) => file)
}

function isSameList(a: readonly BackupSummary[], b: readonly BackupSummary[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index])
}
