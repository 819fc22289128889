import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { NotifyConfig, RunEvent } from '../config/validated.ts'
import { toFailure } from '../domain/errors.ts'
import type { Run } from '../runner/job.ts'
import { KeepAlive } from '../runner/keep-alive.ts'
import { deliver } from './deliver.ts'
import { eventOf } from './payload.ts'

export interface NotifierOptions {
  readonly targets: readonly NotifyConfig[]
  readonly cluster: string
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
  /** 0 to 1. Default Math.random. */
  readonly random?: () => number
}

/** How one target fares. */
export interface DeliveryState {
  readonly target: string
  readonly lastSuccessAt: Date | null
  /** Messages that were given up or dropped, since the start of the process. */
  readonly failures: number
}

/** Tells the targets of runs, beside the runs: a receiver that hangs holds up nothing else. */
export interface Notifier {
  /** To be called at each change of a run, in order; each event of each run is told once. */
  runChanged(run: Run): void
  states(): readonly DeliveryState[]
  /** Gives what waits a short grace, and then up on it. */
  stop(): Promise<void>
}

/** Messages that may wait for one target. The oldest goes: what comes later says more about how things are. */
const mostWaiting = 100

/** A long history does not belong in memory: a run that was told of so many runs ago does not change any more. */
const mostRemembered = 1_000

const graceMs = 5_000

interface Message {
  readonly event: RunEvent
  readonly run: Run
}

export function createNotifier(options: NotifierOptions): Notifier {
  const stopping = new AbortController()
  const told = new Set<string>()
  const queues = options.targets.map((target) => createQueue(target, options, stopping.signal))
  return {
    runChanged(run) {
      const event = eventOf(run)
      if (event === null || told.has(`${run.id} ${event}`)) return
      told.add(`${run.id} ${event}`)
      if (told.size > mostRemembered) told.delete(told.values().next().value ?? '')
      for (const queue of queues) queue.push({ event, run })
    },
    states: () => queues.map((queue) => queue.state()),
    async stop() {
      const grace = new AbortController()
      // While only time is waited for, nothing else would keep a command from ending in the middle of this.
      const release = new KeepAlive().hold()
      const idle = Promise.all(queues.map((queue) => queue.idle()))
      await Promise.race([idle, options.clock.sleep(graceMs, grace.signal).catch(() => {})])
      grace.abort()
      stopping.abort(new Error('lifeboat is shutting down'))
      await Promise.all(queues.map((queue) => queue.idle()))
      release()
    },
  }
}

function createQueue(target: NotifyConfig, options: NotifierOptions, signal: AbortSignal) {
  const { cluster, version, clock, log, random = Math.random } = options
  const waiting: Message[] = []
  let working: Promise<void> | null = null
  let lastSuccessAt: Date | null = null
  let failures = 0

  async function work(): Promise<void> {
    for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
      const { event, run } = message
      const about = { target: target.name, run: run.id, event }
      try {
        const onWait = (why: string, waitMs: number) =>
          log.debug({ ...about, why, waitSeconds: waitMs / 1000 }, 'notification will be tried again')
        await deliver({ target, cluster, version, event, run, clock, random, signal, onWait })
        lastSuccessAt = clock.now()
        log.debug(about, 'notification delivered')
      } catch (error) {
        failures += 1
        log.error({ ...about, ...toFailure(error) }, 'notification was not delivered')
      }
    }
    working = null
  }

  return {
    push(message: Message): void {
      if (signal.aborted || !target.jobs.includes(message.run.job) || !target.events.includes(message.event)) return
      waiting.push(message)
      if (waiting.length > mostWaiting) {
        waiting.shift()
        failures += 1
        log.error({ target: target.name }, 'too many notifications wait: the oldest was dropped')
      }
      working ??= work()
    },
    state: (): DeliveryState => ({ target: target.name, lastSuccessAt, failures }),
    async idle(): Promise<void> {
      await working
    },
  }
}
