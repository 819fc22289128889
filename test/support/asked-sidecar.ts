import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { WalReport } from '../../src/observe/wal-report.ts'
import { type Served, serve } from './serve.ts'
import { untilAnswer } from './until.ts'
import { metricOf, walReport } from './wal-ground.ts'

const askEveryMs = 20

/** The real sidecar, asked without pause how far one can go back to, so that what it said last before it is killed is known. */
export class AskedSidecar {
  /** The latest recovery point that it, or one before it, has ever told: Unix time, ms. */
  promised: number | null = null
  /** What this process said last; null: nothing yet. */
  said: { readonly at: number; readonly point: number | null; readonly report: WalReport } | null = null
  /** The process that is up now, or was last. */
  served: Served | null = null
  /** Every point it has told, once, with the timeline of the server at that time, where the repository knows how one comes to it. */
  readonly heard: { readonly timeline: number; readonly point: number }[] = []
  /** By how much its answers have gone back, ms, without a restart; 0: never. */
  wentBack = 0
  /** Why it did not start, or ended by itself. */
  failure: Error | null = null
  readonly #directory: string
  #child: ChildProcess | null = null
  #isKilled = false

  constructor(directory: string) {
    this.#directory = directory
  }

  /** Resolves when the process is there; it is up when the promise in the answer resolves. */
  async start(yaml: string): Promise<{ readonly up: Promise<Served> }> {
    this.said = null
    this.#isKilled = false
    let up: Promise<Served> | null = null
    await new Promise<void>((resolve, reject) => {
      const onSpawn = (child: ChildProcess) => {
        this.#child = child
        resolve()
      }
      up = serve(this.#directory, yaml, { onSpawn })
      up.then(
        (served) => {
          this.served = served
          return this.#ask(served)
        },
        (error: Error) => {
          if (!this.#isKilled) this.failure = error
          reject(error)
        },
      )
    })
    if (up === null) throw new Error('nothing was started')
    return { up }
  }

  async #ask(served: Served): Promise<void> {
    const newest = { api: 0, metrics: 0 }
    const hear = (from: keyof typeof newest, point: number | null) => {
      if (point === null || this.#child !== served.child) return
      this.wentBack = Math.max(this.wentBack, newest[from] - point)
      newest[from] = point
      this.promised = Math.max(this.promised ?? 0, point)
    }
    while (this.#child === served.child) {
      const at = Date.now()
      try {
        const report = await walReport(served)
        const told = report.repositories[0]?.recoveryPoint ?? null
        const point = told === null ? null : Date.parse(told)
        hear('api', point)
        this.#remember(knownTimeline(report), point)
        const seconds = await metricOf(served, 'lifeboat_recovery_point_timestamp_seconds')
        hear('metrics', seconds === undefined ? null : Math.round(seconds * 1000))
        if (this.#child === served.child) this.said = { at, point, report }
      } catch (error) {
        if (!this.#isKilled && hasEnded(served.child)) this.failure = error as Error
      }
      await delay(askEveryMs)
    }
  }

  #remember(timeline: number | null, point: number | null): void {
    if (timeline === null || point === null) return
    const last = this.heard.at(-1)
    if (last?.timeline !== timeline || last.point !== point) this.heard.push({ timeline, point })
  }

  /** As `untilAnswer`; rejects with what is wrong with the process, or with what it said last. */
  async until<T>(what: string, ask: () => T | undefined | false): Promise<T> {
    try {
      return await untilAnswer(what, async () => {
        if (this.failure !== null) throw this.failure
        return ask()
      })
    } catch (error) {
      const lines = JSON.stringify(this.served?.lines.slice(-5))
      throw new Error(`${what}: it said ${JSON.stringify(this.said)}, and in its log ${lines}`, { cause: error })
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (signal === 'SIGKILL') this.#isKilled = true
    this.#child?.kill(signal)
  }

  /** Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#isKilled = true
    const child = this.#child
    this.#child = null
    if (child === null || hasEnded(child)) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}

/**
 * The timeline of the server; null while the repository has nothing of it, or not where it branched off: then the recovery
 * point is still that of the timeline before, which stays true.
 */
function knownTimeline({ server, repositories: [first] }: WalReport): number | null {
  const found = first?.timelines.find(({ timeline }) => timeline === server?.timeline)
  return found !== undefined && (found.timeline === 1 || found.parent !== null) ? found.timeline : null
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}
