import { mkdir } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { StreamProgress, type StreamState, stallMs } from '../domain/stream.ts'
import { defaultSegmentSize, segmentAt, segmentName } from '../domain/wal.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { findInstallations } from '../postgres/installations.ts'
import { killOrphans } from '../postgres/orphans.ts'
import type { RunningProgram } from '../postgres/programs.ts'
import { type Received, received } from '../postgres/slots.ts'
import { type Partial, readPartial } from './partial.ts'
import { chooseReceiver, endOf, startReceiver } from './receiver.ts'
import { ReceivingDirectory } from './receiving-directory.ts'
import { type Survey, type Surveyed, survey } from './survey.ts'

export interface StreamerOptions {
  readonly source: ConnectionSource
  readonly maintenanceDatabase: string
  /** Where the receiver may be (`postgres.binDir`). */
  readonly binDir: string | null
  /** The archive. */
  readonly archive: string
  readonly slot: string
  readonly synchronous: boolean
  readonly shipEveryMs: number
  /** Of nobody else: holds the password file, and is how a receiver that a killed Lifeboat left behind is found. */
  readonly workFolder: string
  /** Whether it is this Lifeboat that streams: of several one does. */
  readonly isOurs: () => boolean
  /** Stores the beginning of the segment that is being written. What it throws is told, and tried again. */
  readonly shipPartial: (partial: Partial, signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  readonly log: Logger
}

export interface Streamer {
  /** Begins; returns at once. */
  start(): void
  /** Ends the receiver, and resolves when it is gone. */
  stop(): Promise<void>
  state(): StreamState
}

const pollMs = 1_000
const lookMs = 10_000
const firstPauseMs = 1_000
const longestPauseMs = 60_000
/** One that lasted so long had begun well: the pauses start anew. */
const lastedMs = 60_000

/** Keeps a pg_receivewal running, and hands on what it has received of the segment that is not finished. */
export function createStreamer(options: StreamerOptions): Streamer {
  return new Supervisor(options)
}

class Supervisor implements Streamer {
  readonly #options: StreamerOptions
  readonly #directory: ReceivingDirectory
  #state: StreamState
  #stopping = new AbortController()
  #running: Promise<void> | null = null
  #progress: StreamProgress | null = null
  #shipping: Promise<void> | null = null
  /** Of the newest partial that was handed on. */
  #shipped: { readonly segment: string; readonly endLsn: bigint } | null = null

  constructor(options: StreamerOptions) {
    this.#options = options
    this.#directory = new ReceivingDirectory(options.archive)
    this.#state = {
      phase: 'stopped',
      slot: options.slot,
      isUp: null,
      position: null,
      shippedTo: null,
      failure: null,
      shipFailure: null,
      failures: 0,
      holes: 0,
    }
  }

  start(): void {
    if (this.#running !== null) return
    this.#stopping = new AbortController()
    this.#running = this.#run(this.#stopping.signal).finally(() => {
      this.#set({ phase: 'stopped', isUp: null })
    })
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new LifeboatError('interrupted', 'streaming was stopped'))
    await this.#running
    this.#running = null
  }

  state(): StreamState {
    const { phase, failure } = this.#state
    const progress = this.#progress?.isUp(this.#options.clock.monotonic()) ?? null
    const isUp = phase === 'stopped' || phase === 'standby' ? null : failure === null ? progress : false
    return { ...this.#state, isUp }
  }

  #set(change: globalThis.Partial<StreamState>): void {
    this.#state = { ...this.#state, ...change }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, isOurs } = this.#options
    let pauseMs = firstPauseMs
    while (!signal.aborted) {
      try {
        if (!isOurs()) {
          this.#set({ phase: 'standby', failure: null, position: null })
          await clock.sleep(pollMs, signal)
          continue
        }
        const began = clock.monotonic()
        try {
          await this.#once(signal)
          pauseMs = firstPauseMs
        } catch (error) {
          signal.throwIfAborted()
          if (clock.monotonic() - began >= lastedMs) pauseMs = firstPauseMs
          this.#failed(error)
          await clock.sleep(pauseMs, signal)
          pauseMs = Math.min(pauseMs * 2, longestPauseMs)
        }
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
  }

  /** Receives until it fails, or another Lifeboat is to do it. */
  async #once(stopping: AbortSignal): Promise<void> {
    const { source, slot, synchronous, workFolder, binDir } = this.#options
    if (this.#state.failure === null) this.#set({ phase: 'starting' })
    await mkdir(workFolder, { recursive: true, mode: 0o700 })
    await killOrphans(workFolder)
    const installations = await findInstallations(binDir)
    const directory = this.#directory
    const found = await survey({ ...this.#options, directory, signal: stopping })
    const { server, start } = found
    const installation = await chooseReceiver(installations, server.serverMajor)
    this.#tell(found)
    await directory.prepare(start, server.segmentSize)
    const ending = new AbortController()
    const signal = AbortSignal.any([stopping, ending.signal])
    const { serverMajor } = server
    const path = directory.path
    const receiver = await startReceiver({
      installation,
      source,
      serverMajor,
      workFolder,
      directory: path,
      slot,
      synchronous,
      signal,
    })
    try {
      const ended = endOf(receiver).then((error) => Promise.reject(error))
      await Promise.race([ended, this.#watch(server, receiver, signal)])
    } finally {
      ending.abort()
      await receiver.exited
      await this.#shipping
      await directory.moveFinished().catch(() => {}) // told when it is tried again
    }
  }

  async #watch(server: Surveyed, receiver: RunningProgram, signal: AbortSignal): Promise<void> {
    const { clock, isOurs, shipEveryMs, log } = this.#options
    const progress = new StreamProgress(clock.monotonic())
    this.#progress = progress
    const everyMs = Math.min(lookMs, shipEveryMs)
    let [lookAt, shipAt, goneIn] = [clock.monotonic(), clock.monotonic(), -1]
    for (;;) {
      await clock.sleep(Math.min(pollMs, everyMs), signal)
      if (!isOurs()) return
      await this.#directory.moveFinished()
      const now = clock.monotonic()
      if (now < lookAt) continue
      lookAt = now + everyMs
      const seen = await this.#look(signal)
      if (seen === null) continue
      const position = this.#options.synchronous ? seen.flushed : seen.written
      progress.note(now, { position: seen.isVisible ? seen.written : seen.kept, end: seen.end })
      this.#set({ position })
      if (progress.isUp(now) === true && this.#state.phase !== 'streaming') {
        this.#set({ phase: 'streaming', failure: null })
        log.info({ slot: this.#options.slot }, 'WAL is received')
      }
      if (progress.isUp(now) === false) {
        receiver.kill('SIGKILL') // one that hangs does not answer to less
        throw new LifeboatError(
          'timed-out',
          `pg_receivewal hangs: it got nothing for ${stallMs / 1000} s, though the server has more`,
        )
      }
      if (position === null || now < shipAt || this.#shipping !== null) continue
      shipAt = now + shipEveryMs * Math.max(1, server.segmentSize / defaultSegmentSize)
      const segment = segmentAt(position, server.segmentSize)
      const partial = await readPartial({ ...server, directory: this.#directory, position })
      if (partial === 'gone') {
        if (goneIn === segment)
          throw new LifeboatError('storage-failed', `what is being received is no longer in ${this.#directory.path}`, {
            hint: 'somebody has removed it; it is received again, if the directory can be used',
          })
        goneIn = segment
      } else if (partial !== null) {
        this.#ship(partial, signal)
      }
    }
  }

  /** Null: the server did not answer, and nobody knows how the receiver fares. */
  async #look(signal: AbortSignal): Promise<Received | null> {
    const { source, maintenanceDatabase: database, slot, log } = this.#options
    try {
      return await withSession(source, { database, signal }, (session) => received(session, slot))
    } catch (error) {
      signal.throwIfAborted()
      log.debug({ ...toFailure(error) }, 'how far WAL is received cannot be seen')
      return null
    }
  }

  /** In the background: a slow repository must not keep us from seeing a receiver that hangs. */
  #ship(partial: Partial, signal: AbortSignal): void {
    const { segment, endLsn } = partial
    if (this.#shipped?.segment === segment && this.#shipped.endLsn >= endLsn) return
    const { shipPartial, log } = this.#options
    this.#shipping = shipPartial(partial, signal)
      .then(
        () => {
          this.#shipped = { segment, endLsn }
          this.#set({ shippedTo: endLsn, shipFailure: null })
        },
        (error: unknown) => {
          if (signal.aborted) return
          const failure = toFailure(error)
          const level = failure.message === this.#state.shipFailure?.message ? 'debug' : 'warn'
          this.#set({ shipFailure: failure })
          log[level]({ segment, ...failure }, 'the newest WAL could not be stored in every repository')
        },
      )
      .finally(() => {
        this.#shipping = null
      })
  }

  #tell({ server, start, slot }: Survey): void {
    const { log, slot: name } = this.#options
    const { timeline, segment, hole } = start
    const from = segmentName(timeline, segment, server.segmentSize)
    if (slot === 'renewed') log.warn({ slot: name, from }, 'the server had given the slot up: it is made anew')
    else
      log[slot === 'made' ? 'warn' : 'debug'](
        { slot: name, from },
        slot === 'made' ? 'there was no such slot: it is made' : 'WAL is to be received',
      )
    if (hole === null) return
    this.#set({ holes: this.#state.holes + 1 })
    const [first, last] = [formatLsn(hole.from), formatLsn(hole.to)]
    log.error(
      { slot: name, from: first, to: last },
      'a hole: the server does not have this WAL any more, and it was not received',
    )
  }

  /** Once for each reason: what fails every minute would fill the log. */
  #failed(error: unknown): void {
    const failure = toFailure(error)
    const isNews = words(failure) !== words(this.#state.failure)
    const { log, slot } = this.#options
    log[isNews ? 'error' : 'debug']({ slot, ...failure }, 'WAL is not received')
    this.#set({ phase: 'waiting', failure, position: null, failures: this.#state.failures + 1 })
  }
}

/** A message without what is another each time: places, numbers of processes. */
function words(failure: Failure | null): string | undefined {
  return failure?.message.replace(/[\dA-F]+/g, '#')
}
