import { createHash } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { type Inspection, notInspected } from '../domain/external.ts'
import { type FileFacts, finishedState } from '../domain/external-file.ts'
import { type FilePattern, keysSince, literalPrefix } from '../domain/file-pattern.ts'
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import { SweptObjects } from '../storage/swept-objects.ts'
import type { BackupSummary } from './catalog.ts'
import { externalId, type KnownFile, summaryOf, type WatchState, watchState } from './external-catalog.ts'
import { createIntern } from './summaries.ts'

/** A bucket to watch; the configuration has it. */
export interface WatchedBucketPlace {
  readonly name: string
  /** Of the keys below the root of the storage. */
  readonly pattern: string
  readonly match: FilePattern
  readonly database: string | null
  readonly quietMs: number
  readonly maxAgeSeconds: number
  readonly minBytes: number
  readonly shrinkBelow: number
}

export interface WatchedBucketOptions {
  readonly place: WatchedBucketPlace
  readonly storage: Pick<Storage, 'list'>
  readonly holds: () => WatchState['holds']
  readonly clock: Clock
}

/** Where keys begin with a date, those of so many days are listed each time, beside the page that is due. */
const newestDays = 3
const dayMs = 86_400_000

const unread = notInspected('it is in a bucket, and nobody has read it')

/** What a dump in directory format cannot be restored without. */
const contents = 'toc.dat'

/**
 * The dumps of another tool in a bucket, by listings alone: a page at each look, and the newest days where the keys are in
 * the order of time. An object is there when it is whole; of a dump in several objects, nobody knows before they are quiet.
 */
export class WatchedBucket {
  readonly #options: WatchedBucketOptions
  readonly #objects: SweptObjects
  readonly #files = new Map<string, KnownFile>()
  /** Versions of the objects of each file. */
  readonly #versions = new Map<string, string>()
  readonly #summaries = new WeakMap<KnownFile, BackupSummary>()
  readonly #intern = createIntern()
  #state: WatchState | null = null

  constructor(options: WatchedBucketOptions) {
    const { place, storage, clock } = options
    this.#options = options
    this.#objects = new SweptObjects({
      ...{ storage, clock, prefix: literalPrefix(place.pattern), end: null },
      kindOf: (key) => (place.match(this.#nameOf(key)) === null ? 'ours' : 'kept'),
      newest: () => {
        const after = keysSince(place.pattern, new Date(clock.now().getTime() - newestDays * dayMs))
        return after === null ? [] : [{ after, before: null }]
      },
    })
  }

  /** Fails as the storage does; what is known stays. */
  async look(signal: AbortSignal): Promise<WatchState> {
    const { place, holds } = this.#options
    await this.#objects.refresh(signal)
    const gone = new Set(this.#files.keys())
    for (const [name, objects] of this.#grouped()) {
      this.#see(name, objects)
      gone.delete(name)
    }
    for (const name of gone) {
      this.#files.delete(name)
      this.#versions.delete(name)
    }
    const summary = (file: KnownFile) => {
      const known = this.#summaries.get(file) ?? summaryOf(file)
      this.#summaries.set(file, known)
      return known
    }
    const known = { ...place, proofs: new Map(), holds: holds(), summary }
    this.#state = watchState(this.#files.values(), known, this.#state)
    return this.#state
  }

  /** What the last look has found. */
  files(): readonly KnownFile[] {
    return [...this.#files.values()]
  }

  /** The objects of each dump, by its name. */
  *#grouped(): Generator<readonly [string, readonly ObjectInfo[]]> {
    let [name, objects]: [string, ObjectInfo[]] = ['', []]
    for (const item of this.#objects.kept.list('')) {
      if (!('key' in item)) continue
      const next = this.#nameOf(item.key)
      if (next !== name && objects.length > 0) yield [name, objects]
      if (next !== name) [name, objects] = [next, []]
      objects.push(item)
    }
    if (objects.length > 0) yield [name, objects]
  }

  /** The key, or the folder that is the dump, with a slash at its end. */
  #nameOf(key: string): string {
    const { pattern } = this.#options.place
    if (!pattern.endsWith('/')) return key
    return `${key.split('/', pattern.split('/').length - 1).join('/')}/`
  }

  #see(name: string, objects: readonly ObjectInfo[]): void {
    const { place, clock } = this.#options
    const former = this.#files.get(name)
    const versions = objects.map(({ key, version }) => `${key}\0${version}\0`).join('')
    if (former !== undefined && former.state !== 'growing' && this.#versions.get(name) === versions) return
    const said = place.match(name)
    if (said === null) return
    const facts = factsOf(name, objects, versions)
    this.#versions.set(name, versions)
    const isQuiet = !facts.isDirectory || clock.now().getTime() - facts.modified >= place.quietMs
    const inspection = inspectionOf(name, objects, facts)
    this.#files.set(name, {
      ...{ name, id: former?.id ?? externalId(place.name, name), facts },
      namedAt: said.at?.getTime() ?? null,
      database: this.#intern(place.database ?? said.database ?? ''),
      state: isQuiet ? finishedState(facts, place.minBytes, inspection) : 'growing',
      inspection: isQuiet ? inspection : null,
    })
  }
}

/** An object as a file: whoever replaces it changes its ETag. */
function factsOf(name: string, objects: readonly ObjectInfo[], versions: string): FileFacts {
  const modified = objects.reduce((newest, object) => Math.max(newest, object.modified.getTime()), 0)
  return {
    isDirectory: name.endsWith('/'),
    bytes: objects.reduce((sum, { bytes }) => sum + bytes, 0),
    ...{ modified, changed: modified, device: 0, inode: inodeOf(versions) },
  }
}

function inodeOf(versions: string): number {
  return createHash('sha256').update(versions).digest().readUIntBE(0, 6)
}

/** What the listing shows of a dump in directory format: its rows without their contents, or objects without a byte. */
function inspectionOf(name: string, objects: readonly ObjectInfo[], { bytes }: FileFacts): Inspection {
  const said = (state: Inspection['state'], detail: string) => ({ ...unread, bytes, state, detail })
  if (!name.endsWith('/')) return { ...unread, bytes }
  const names = objects.map(({ key }) => key.slice(key.lastIndexOf('/') + 1))
  const hasRows = names.some((one) => /^\d+\.dat(?:\.\w+)?$/.test(one))
  if (hasRows && !names.includes(contents)) return said('truncated', `${contents} is missing`)
  const empty = objects.find((object) => object.bytes === 0)
  if (empty !== undefined) return said('truncated', `${JSON.stringify(empty.key)} has no bytes`)
  return { ...unread, bytes }
}
