import type { DrillResult } from '../domain/alert-drill.ts'
import type { History } from '../runner/history.ts'

/** The drill that goes on. */
interface Current {
  readonly runId: string
  readonly drill: string
  /** The sidecar shows it as a metric; otherwise its alert is posted. */
  readonly isShown: boolean
}

/** A receiver that has sent the drill back. */
export interface Echo {
  readonly drill: string
  /** As Alertmanager calls it; empty: it has not said. */
  readonly receiver: string
}

/** Whoever may send alerts back must not fill the state file with names. */
const mostReceivers = 20

const facts = {
  current: 'alert-drill current',
  shown: 'alert-drill shown',
  echo: 'alert-drill echo',
  last: 'alert-drill last',
  result: 'alert-drill result',
  proven: 'alert-drill proven',
} as const

/**
 * What the process that drills, the sidecar that shows the drill and gets it back, and whoever asks afterwards tell each
 * other. It lies in the state file, so that a command can drill by way of the sidecar beside it.
 *
 * Every method throws LifeboatError `storage-failed` or `disk-full` as the history does.
 */
export class DrillState {
  readonly #history: Pick<History, 'fact' | 'keepFact' | 'get'>
  readonly #listeners = new Set<() => void>()

  constructor(history: Pick<History, 'fact' | 'keepFact' | 'get'>) {
    this.#history = history
  }

  /** Calls the listener when a drill of this process begins or ends. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /**
   * Begins a drill of a running run. Its id are the seconds since 1970 at which it began: it becomes the value of a metric.
   * No two drills have the same, even if the clock was set back.
   */
  begin(runId: string, { now, isShown }: { readonly now: Date; readonly isShown: boolean }): string {
    const last = Number(this.#history.fact(facts.last) ?? 0)
    const drill = String(Math.max(Math.floor(now.getTime() / 1000), last + 1))
    this.#history.keepFact(facts.last, drill)
    this.#keep<Current>(facts.current, { runId, drill, isShown })
    this.#changed()
    return drill
  }

  /** Nothing shows it any more, and nobody's echo counts. */
  end(): void {
    this.#history.keepFact(facts.current, 'null')
    this.#changed()
  }

  /** For the sidecar: the drill to be shown, 0 while there is none. One whose process has died is over. */
  show(): number {
    const current = this.#current()
    if (current === null || !current.isShown) return 0
    if (this.#history.fact(facts.shown) !== current.drill) this.#history.keepFact(facts.shown, current.drill)
    return Number(current.drill)
  }

  /** A sidecar has shown this drill. */
  isShown(drill: string): boolean {
    return this.#history.fact(facts.shown) === drill
  }

  /** Notes what a receiver has sent back. False, and nothing is noted, when no such drill goes on. */
  hear(echo: Echo): boolean {
    if (this.#current()?.drill !== echo.drill) return false
    const before = this.echoes(echo.drill)
    if (!before.includes(echo.receiver) && before.length < mostReceivers)
      this.#keep(facts.echo, { drill: echo.drill, receivers: [...before, echo.receiver] })
    return true
  }

  /** The receivers that have sent this drill back. */
  echoes(drill: string): readonly string[] {
    const heard = this.#read<{ drill: string; receivers: readonly string[] }>(facts.echo)
    return heard?.drill === drill ? heard.receivers : []
  }

  keepResult(result: DrillResult): void {
    this.#keep(facts.result, result)
  }

  /** What came of this run, while it is the last one that drilled. */
  resultOf(runId: string): DrillResult | null {
    const result = this.#read<DrillResult>(facts.result)
    return result?.runId === runId ? result : null
  }

  noteProven(at: Date): void {
    this.#history.keepFact(facts.proven, at.toISOString())
  }

  /** When the whole way was last proven; null: never. */
  lastProvenAt(): Date | null {
    const text = this.#history.fact(facts.proven)
    const at = new Date(text ?? Number.NaN)
    return Number.isNaN(at.getTime()) ? null : at
  }

  #current(): Current | null {
    const current = this.#read<Current>(facts.current)
    return current !== null && this.#history.get(current.runId)?.state === 'running' ? current : null
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }

  #keep<T>(name: string, value: T): void {
    this.#history.keepFact(name, JSON.stringify(value))
  }

  #read<T>(name: string): T | null {
    const text = this.#history.fact(name)
    return text === null ? null : (JSON.parse(text) as T)
  }
}
