import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { SegmentSet } from '../domain/segment-set.ts'
import type { TimelineHistory } from '../domain/timeline.ts'
import { defaultSegmentSize, parseWalName } from '../domain/wal.ts'
import { ask } from '../fetch/ask.ts'
import { mapConcurrently } from '../observe/concurrent.ts'
import type { Repository } from '../repository/repository.ts'
import type { StoredWalObject } from '../repository/wal.ts'
import { readStoredHistory } from '../repository/wal-content.ts'
import { readSegmentSize } from '../repository/wal-segment-size.ts'
import type { BadWal, WalVerifiedRows } from '../runner/wal-verified-rows.ts'
import { checkWalObject } from './check-object.ts'
import { type FoundProblem, found } from './problems.ts'

export interface WalVerifyOptions {
  readonly repository: Repository
  readonly records: WalVerifiedRows
  readonly clock: Clock
  /** Read also what was read before. */
  readonly all: boolean
  /** Read at most so many segments and partials; null: all that there are. */
  readonly limit: number | null
  /** Reads the records in segments that are whole otherwise. */
  readonly checkRecords?: RecordCheck
  /** One that gives nothing for so long while it is listed and read, milliseconds, has failed. Default: for ever. */
  readonly patienceMs?: number
  readonly onProgress?: (progress: WalVerifyProgress) => void
  readonly signal: AbortSignal
}

/** Gives the segments in which there is a record that cannot be read. */
export type RecordCheck = (of: {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly segmentSize: number
  readonly segments: SegmentSet
}) => AsyncIterable<{ readonly segment: number; readonly object: StoredWalObject; readonly detail: string }>

export interface WalVerifyProgress {
  readonly read: number
  /** As stored. */
  readonly bytes: number
  readonly name: string
}

/** What was done in one repository, and what was found. */
export interface WalVerification {
  readonly repository: string
  /** Segments, partials and histories that were read. */
  readonly read: number
  /** Of these, as stored. */
  readonly bytes: number
  /** Segments that were read and found whole by an earlier run. */
  readonly known: number
  /** Encrypted, and not to be decrypted here: nothing is known of them. */
  readonly unread: number
  /** Why they could not be; null: all could. */
  readonly unreadFailure: Failure | null
  /** Removed while they were to be read. */
  readonly gone: number
  /** False: the limit was reached before the end. */
  readonly complete: boolean
  readonly bad: readonly BadWal[]
}

const noIdentity: Failure = {
  code: 'identity-missing',
  message: 'no identity is configured that could open them',
  hint: 'set encryption.identityFile to the file with the private key',
}

/** Files that are read at a time. */
const concurrency = 2
/** So many segments that are whole are noted together; a killed run reads them again. */
const notedTogether = 64
/** Files that the storage cannot read, one after another: then it is not their fault. */
const mostUnreadable = 10

/**
 * Reads the WAL in one repository, each segment once, and holds it against its names. What is whole, and what is not, is
 * noted in the state file.
 *
 * @throws LifeboatError `storage-failed` when the repository cannot be read or is not the one that it was; `timed-out`
 */
export async function verifyWal(options: WalVerifyOptions): Promise<WalVerification> {
  const { repository } = options
  const run = new Verification(options)
  const systems = await run.within(async (signal) => {
    await repository.checkPresence({ signal })
    return all(repository.wal.systems({ signal }))
  })
  for (const system of systems) await run.system(system)
  return run.end()
}

/** One run in one repository. */
class Verification {
  readonly #options: WalVerifyOptions
  readonly #bad: BadWal[] = []
  /** What earlier runs have found, and this one has not seen yet. */
  readonly #former: Map<string, BadWal>
  #counts = { read: 0, bytes: 0, known: 0, unread: 0, gone: 0 }
  #unreadFailure: Failure | null = null
  #started = 0
  /** One after another. */
  #unreadable = 0

  constructor(options: WalVerifyOptions) {
    this.#options = options
    const { records, repository } = options
    this.#former = new Map(records.badSegments(repository.name, repository.cluster).map((bad) => [badKey(bad), bad]))
  }

  /** Does something with the repository, as long as that gives something. */
  async within<T>(work: (signal: AbortSignal, alive: () => void) => Promise<T>): Promise<T> {
    const { repository, clock, signal, patienceMs } = this.#options
    if (patienceMs === undefined) return work(signal, () => {})
    const answer = await ask(repository, { clock, signal, patienceMs }, work)
    signal.throwIfAborted()
    if ('value' in answer) return answer.value
    const { code, message, hint } = answer.failure
    throw new LifeboatError(code, message, hint === undefined ? {} : { hint })
  }

  async system(systemIdentifier: string): Promise<void> {
    const { repository } = this.#options
    const histories = await this.within((signal) => this.#histories(systemIdentifier, signal))
    const { size } = await this.within((signal) => readSegmentSize(repository, systemIdentifier, signal))
    const timelines = await this.within((signal) => all(repository.wal.timelines(systemIdentifier, { signal })))
    for (const timeline of timelines) {
      if (this.#isFull()) return
      const history = histories.get(timeline) ?? null
      await this.#timeline(systemIdentifier, timeline, { segmentSize: size ?? defaultSegmentSize, history })
    }
  }

  async end(): Promise<WalVerification> {
    const { repository, records, signal } = this.#options
    const complete = !this.#isFull()
    if (complete && this.#former.size > 0) {
      // What was not met is not there any more, if the repository is.
      await repository.checkPresence({ signal })
      for (const bad of this.#former.values()) records.forgetBad(repository.name, repository.cluster, bad)
    }
    const order = (bad: BadWal) => `${bad.systemIdentifier} ${bad.name} ${bad.hash ?? ''}`
    const bad = this.#bad.toSorted((a, b) => (order(a) < order(b) ? -1 : 1))
    return { repository: repository.name, ...this.#counts, unreadFailure: this.#unreadFailure, complete, bad }
  }

  async #histories(systemIdentifier: string, signal: AbortSignal): Promise<ReadonlyMap<number, TimelineHistory>> {
    const { repository } = this.#options
    const histories = new Map<number, TimelineHistory>()
    for await (const object of repository.wal.listPlain(systemIdentifier, { signal })) {
      if (object.kind !== 'history') continue
      const read = async () => {
        const history = await readStoredHistory(repository.wal, object, { signal })
        histories.set(history.timeline, history)
        return null
      }
      await this.#judge(object, () =>
        read().catch((error: unknown) => {
          if (!(error instanceof LifeboatError && error.code === 'wal-invalid')) throw error
          return { problem: 'bad-history', detail: error.message } as const
        }),
      )
    }
    return histories
  }

  async #timeline(
    systemIdentifier: string,
    timeline: number,
    expected: { readonly segmentSize: number; readonly history: TimelineHistory | null },
  ): Promise<void> {
    const { repository, records, checkRecords } = this.#options
    const { name, cluster, wal } = repository
    const place = { repository: name, cluster, systemIdentifier, timeline }
    const [good, read] = [new SegmentSet(), new SegmentSet()]
    const before = this.#options.all ? new SegmentSet() : records.verified(place)
    let isWhole = false
    try {
      await this.within(async (signal, alive) => {
        const groups = this.#wanted(place, { before, good, segmentSize: expected.segmentSize }, { signal, alive })
        await mapConcurrently(groups, concurrency, signal, async (group) => {
          const sound: StoredWalObject[] = []
          for (const object of group) {
            const how = { ...expected, signal, alive }
            const problem = await this.#judge(object, () => checkWalObject(wal, object, how))
            if (problem === null && object.kind === 'segment') sound.push(object)
          }
          // Of one content, plain and encrypted, it is one.
          const contents = new Set(sound.map(({ hash }) => hash))
          if (contents.size > 1) for (const object of sound) this.#condemn(object, found('two-contents'))
          const file = sound[0] === undefined ? null : parseWalName(sound[0].name, expected.segmentSize)
          if (contents.size !== 1 || sound.length !== group.length || file?.kind !== 'segment') return
          good.add(file.segment)
          read.add(file.segment)
          if (read.size % notedTogether === 0 && checkRecords === undefined) records.noteVerified(place, good.ranges())
        })
      })
      for await (const { segment, object, detail } of checkRecords?.({ ...place, ...expected, segments: read }) ?? []) {
        good.remove(segment)
        this.#condemn(object, { problem: 'bad-record', detail })
      }
      isWhole = !this.#isFull()
    } finally {
      if (isWhole) records.setVerified(place, good)
      // Their records were not all read.
      else if (checkRecords === undefined) records.noteVerified(place, good.ranges())
    }
  }

  /** The objects of each segment that is to be read, together. */
  async *#wanted(
    { systemIdentifier, timeline }: { readonly systemIdentifier: string; readonly timeline: number },
    known: { readonly before: SegmentSet; readonly good: SegmentSet; readonly segmentSize: number },
    { signal, alive }: { readonly signal: AbortSignal; readonly alive: () => void },
  ): AsyncGenerator<readonly StoredWalObject[]> {
    const { repository } = this.#options
    const choose = (group: readonly StoredWalObject[]) => {
      const file = parseWalName(group[0]?.name ?? '', known.segmentSize)
      const isBad = group.some((object) => this.#former.has(badKey(object)))
      if (group.length === 1 && file?.kind === 'segment' && !isBad && known.before.has(file.segment)) {
        this.#counts.known += 1
        known.good.add(file.segment)
        return []
      }
      const readable = group.filter((object) => repository.wal.isReadable(object))
      const unread = group.length - readable.length
      if (unread > 0) this.#skip(unread, noIdentity)
      this.#started += readable.length
      return readable
    }
    let group: StoredWalObject[] = []
    for await (const object of repository.wal.list(systemIdentifier, timeline, { signal })) {
      alive()
      if (group[0] !== undefined && group[0].name !== object.name) {
        const chosen = choose(group)
        if (chosen.length > 0) yield chosen
        if (this.#isFull()) return
        group = []
      }
      group.push(object)
    }
    const chosen = choose(group)
    if (chosen.length > 0) yield chosen
  }

  #isFull(): boolean {
    return this.#options.limit !== null && this.#started >= this.#options.limit
  }

  /** Reads one file, and notes what is wrong with it, or that nothing is any more. */
  async #judge(
    object: StoredWalObject,
    read: () => Promise<FoundProblem | null>,
  ): Promise<FoundProblem | null | 'gone' | 'unread'> {
    const { repository, records } = this.#options
    try {
      const problem = await read()
      this.#unreadable = 0
      this.#count(object)
      if (problem !== null) this.#condemn(object, problem)
      else if (this.#former.has(badKey(object))) records.forgetBad(repository.name, repository.cluster, object)
      this.#former.delete(badKey(object))
      return problem
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error
      if (error.code === 'identity-mismatch') {
        this.#skip(1, toFailure(error))
        return 'unread'
      }
      if (error.code !== 'object-missing' && error.code !== 'storage-failed') throw error
      // Expired meanwhile, a bad spot of the disk, or all of it has gone.
      await repository.checkPresence({ signal: this.#options.signal })
      if (error.code === 'object-missing') {
        this.#counts.gone += 1
        return 'gone'
      }
      this.#unreadable += 1
      if (this.#unreadable > mostUnreadable) throw error
      this.#count(object)
      const problem = { problem: 'unreadable', detail: error.message } as const
      this.#condemn(object, problem)
      return problem
    }
  }

  #skip(count: number, failure: Failure): void {
    this.#counts.unread += count
    this.#unreadFailure = failure
  }

  #count({ name, info }: StoredWalObject): void {
    this.#counts.read += 1
    this.#counts.bytes += info.bytes
    this.#options.onProgress?.({ read: this.#counts.read, bytes: this.#counts.bytes, name })
  }

  #condemn({ systemIdentifier, name, hash }: StoredWalObject, { problem, detail }: FoundProblem): void {
    const { repository, records, clock } = this.#options
    const bad = { systemIdentifier, name, hash, problem, detail, foundAt: clock.now() }
    this.#bad.push(bad)
    this.#former.delete(badKey(bad))
    records.noteBad(repository.name, repository.cluster, bad)
  }
}

async function all<T>(source: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = []
  for await (const one of source) found.push(one)
  return found
}

const badKey = ({ systemIdentifier, name, hash }: Pick<BadWal, 'systemIdentifier' | 'name' | 'hash'>) =>
  `${systemIdentifier}/${name}-${hash ?? ''}`
