import { join } from 'node:path'
import type { Logger } from 'pino'
import { type Clock, withDeadline } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { segmentName, type WalFile } from '../domain/wal.ts'
import type { WalArchiveState } from '../observe/wal-state.ts'
import type { Repository } from '../repository/repository.ts'
import { type ReadyArchive, readyArchive } from './plan.ts'
import { PruneClock } from './prune-clock.ts'
import { orAborted, Unreadable } from './readers.ts'
import type { RepositoryShipper } from './repository-shipper.ts'
import { questionOf } from './ship-file.ts'
import type { Source } from './source.ts'

const everyMs = 60_000
/** After the system refused: nothing changes by itself. */
const refusedMs = 3600_000
const askingMs = 60_000

/** A repository, and who ships to it. */
export interface PrunedPlace {
  readonly repository: Repository
  readonly shipper: RepositoryShipper
}

export interface PrunerOptions {
  readonly keepMs: number
  readonly archive: () => WalArchiveState | null
  readonly places: readonly PrunedPlace[]
  readonly isOurs: (repository: string) => boolean | Promise<boolean>
  /** Why the clock cannot be trusted; null: it can. */
  readonly clockDoubt: () => string | null
  readonly source: Source
  readonly clock: Clock
  readonly log: Logger
}

type Segment = Extract<WalFile, { kind: 'segment' }>

/**
 * Removes whole segments from the archive that are old enough and are in every repository, by a look at each and by the
 * hash of the file as it is now. Histories, partials, labels, and the newest segment of each timeline stay.
 */
export class Pruner {
  readonly #options: PrunerOptions
  readonly #time: PruneClock
  #segments = 0
  #bytes = 0
  #failure: Failure | null = null

  constructor(options: PrunerOptions) {
    this.#options = options
    this.#time = new PruneClock(options.clock)
  }

  state(): { readonly prunedSegments: number; readonly prunedBytes: number; readonly failure: Failure | null } {
    return { prunedSegments: this.#segments, prunedBytes: this.#bytes, failure: this.#failure }
  }

  /** Goes on until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    while (!signal.aborted) {
      let pauseMs = everyMs
      try {
        await this.#pass(signal)
        this.#failure = null
      } catch (error) {
        if (signal.aborted) return
        const isRefusal = error instanceof Unreadable && ['EACCES', 'EPERM', 'EROFS'].includes(error.code)
        if (isRefusal) pauseMs = refusedMs
        this.#tell(isRefusal ? refused(error, this.#options.archive()?.directory ?? '') : error)
      }
      await clock.sleep(pauseMs, signal).catch(() => {})
    }
  }

  #tell(error: unknown): void {
    const failure = toFailure(error)
    const isNews = this.#failure?.message !== failure.message
    this.#failure = failure
    this.#options.log[isNews ? 'warn' : 'debug'](failure, 'the WAL archive could not be pruned')
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { places, isOurs, clockDoubt, keepMs } = this.#options
    const archive = readyArchive(this.#options.archive())
    if (archive === null || archive.newest === null || places.length === 0) return
    const oldest = this.#time.now(archive.newest.at) - keepMs
    if (clockDoubt() !== null) return
    for (const { repository } of places) if (!(await isOurs(repository.name))) return
    for (const timeline of archive.coverage.present()) {
      const set = archive.coverage.segments(timeline)
      for (let segment = set.first ?? 0; segment < (set.last ?? 0) && !signal.aborted; ) {
        if (!set.has(segment)) {
          segment = set.ranges(segment).next().value?.first ?? set.last ?? 0
          continue
        }
        if (!(await this.#consider({ kind: 'segment', timeline, segment }, archive, oldest, signal))) break
        segment += 1
      }
    }
  }

  /** False: it is too young, and so are those after it. */
  async #consider(file: Segment, archive: ReadyArchive, oldest: number, signal: AbortSignal): Promise<boolean> {
    const { places, source, log } = this.#options
    const name = segmentName(file.timeline, file.segment, archive.segmentSize)
    // Of whichever cluster, that is: what a server has left here before its upgrade is to go as well.
    const isStored = places.every(
      ({ shipper }) => shipper.holds(name, file, null) && shipper.bad.get(name) === undefined,
    )
    if (!isStored) return true
    const path = join(archive.directory, name)
    try {
      const question = questionOf(file, archive.segmentSize)
      const head = await source.head(path, question)
      if (head.modifiedMs > oldest) return false
      if (head.problem !== null || head.systemIdentifier === null) return true
      const { sha256, identity, bytes } = await source.hash(path, question)
      const short = sha256.slice(0, 12)
      for (const place of places) {
        if (!(await this.#isStored(place, { file, name, system: head.systemIdentifier, short }, signal))) return true
      }
      await source.unlink(path, identity)
      this.#segments += 1
      this.#bytes += bytes
      log.debug({ name }, 'removed from the WAL archive: every repository has it')
    } catch (error) {
      // It has gone, or is another file now: that is seen to the next time.
      if (!(error instanceof Unreadable && (error.code === 'ENOENT' || error.code === 'CHANGED'))) throw error
    }
    return true
  }

  async #isStored(
    { repository, shipper }: PrunedPlace,
    { file, name, system, short }: { file: Segment; name: string; system: string; short: string },
    signal: AbortSignal,
  ): Promise<boolean> {
    const reason = new LifeboatError('timed-out', `${repository.name} did not answer whether it has ${name}`)
    return withDeadline(this.#options.clock, { ms: askingMs, reason, signals: [signal] }, async (late) => {
      const there = await orAborted(repository.wal.ofSegment(system, name, { signal: late }), late)
      const whole = there.filter((one) => one.name === name)
      if (whole.length === 0) shipper.forget({ name, file })
      // Of other bytes: that is looked into as where the watch had told of it.
      if (whole.length > 0 && whole.every(({ hash }) => hash !== short)) shipper.hint([name])
      if (whole.length === 0 || whole.some(({ hash }) => hash !== short)) return false
      return !(await orAborted(repository.wal.isQuarantined(system, name, { signal: late }), late))
    })
  }
}

function refused(cause: Unreadable, directory: string): LifeboatError {
  return new LifeboatError('storage-failed', `may not remove from the WAL archive ${directory}: ${cause.message}`, {
    hint: `let the group of lifeboat write to the directory (chmod g+w ${directory}, without the sticky bit), or leave out wal.keepInArchive`,
    cause,
  })
}
