import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { judgeArchiver, type TimedSample } from '../domain/archiver.ts'
import type { WalInterval } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { segmentAt, segmentBefore, segmentName } from '../domain/wal.ts'
import { sampleArchiver } from '../postgres/archiver.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import type { Repository } from '../repository/repository.ts'

export interface WalNeed {
  readonly systemIdentifier: string
  readonly segmentSize: number
  readonly intervals: readonly WalInterval[]
}

export interface WalWait extends WalNeed {
  readonly repository: Repository
  readonly clock: Clock
  readonly timeoutMs: number
  /** What keeps the WAL back, in words. */
  readonly why: (segment: string) => Promise<string>
  readonly signal: AbortSignal
}

/** How long to wait between looks: short at first, since most often the WAL is on its way. */
const [firstPauseMs, longestPauseMs] = [250, 10_000]

/**
 * Resolves when every segment of the intervals is stored in the repository.
 *
 * @throws LifeboatError `wal-missing` when one is not there in time, naming it
 */
export async function walStored(options: WalWait): Promise<void> {
  const { repository, systemIdentifier, clock, timeoutMs, signal } = options
  const deadline = clock.monotonic() + timeoutMs
  let pause = firstPauseMs
  for (const segment of segmentsOf(options)) {
    while (!(await isStored(repository, systemIdentifier, segment, signal))) {
      const left = deadline - clock.monotonic()
      if (left <= 0)
        throw walMissing(segment, `in repository ${repository.name}`, timeoutMs, await options.why(segment))
      await clock.sleep(Math.min(pause, left), signal)
      pause = Math.min(pause * 2, longestPauseMs)
    }
  }
}

async function isStored(
  repository: Repository,
  systemIdentifier: string,
  segment: string,
  signal: AbortSignal,
): Promise<boolean> {
  const found = await repository.wal.ofSegment(systemIdentifier, segment, { signal })
  return found.some(({ kind }) => kind === 'segment')
}

/** The names of the segments that hold the intervals, in order. */
export function* segmentsOf({ intervals, segmentSize }: Omit<WalNeed, 'systemIdentifier'>): Generator<string> {
  for (const { timeline, start, end } of intervals) {
    const [from, to] = [parseLsn(start), parseLsn(end)]
    if (from === null || to === null)
      throw new LifeboatError('usage-invalid', `${start} to ${end} is no part of the WAL`)
    for (let number = segmentAt(from, segmentSize); number <= segmentBefore(to, segmentSize); number += 1)
      yield segmentName(timeline, number, segmentSize)
  }
}

export function walMissing(what: string, where: string, timeoutMs: number, why: string): LifeboatError {
  const waited = `${Math.round(timeoutMs / 1000)} s`
  return new LifeboatError(
    'wal-missing',
    `the WAL of the backup did not come ${where}: ${what} was missing after ${waited}; ${why}`,
    {
      hint: 'see to the archiver, and that `lifeboat serve` runs, which ships the WAL; then take the backup again; physical.walTimeout sets how long it waits',
    },
  )
}

/** Remembers how the archiver was at the start of a wait, so that at its end it can be said what is the matter with it. */
export class ArchiverWitness {
  readonly #source: ConnectionSource
  readonly #options: { readonly database: string; readonly archive: string | null; readonly clock: Clock }
  #first: TimedSample | null = null

  constructor(
    source: ConnectionSource,
    options: { readonly database: string; readonly archive: string | null; readonly clock: Clock },
  ) {
    this.#source = source
    this.#options = options
  }

  /** Takes the first look. Never fails: what cannot be seen is not told of. */
  async begin(signal: AbortSignal): Promise<void> {
    this.#first = await this.#sample(signal).catch(() => null)
  }

  /** How the archiver is, in words. Never fails. */
  async tell(segment: string | null, signal: AbortSignal): Promise<string> {
    try {
      const now = await this.#sample(signal)
      const { archive } = this.#options
      const isLost =
        segment !== null &&
        archive !== null &&
        now.sample.files?.done.includes(segment) === true &&
        !(await isThere(join(archive, segment)))
      const { state, detail } = judgeArchiver(now, this.#first === null ? [] : [this.#first], isLost ? [segment] : [])
      return `the archiver is ${state ?? 'not to be seen'}: ${detail}`
    } catch (error) {
      return `the archiver cannot be looked at: ${toFailure(error).message}`
    }
  }

  async #sample(signal: AbortSignal): Promise<TimedSample> {
    const { database, clock } = this.#options
    const sample = await withSession(this.#source, { database, signal }, sampleArchiver)
    return { atMs: clock.monotonic(), sample }
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
