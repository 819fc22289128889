import type { Clock } from '../clock.ts'
import { clockDoubt } from '../domain/clock-doubt.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { RetentionRefusal } from '../domain/retention.ts'
import type { History } from './history.ts'

const factName = 'clock-noted'

/** Remembers, beyond restarts, what time the clock has shown: what is removed because of its age depends on it. */
export class ClockGuard {
  readonly #clock: Clock
  readonly #facts: Pick<History, 'fact' | 'keepFact'>

  constructor({ clock, facts }: { readonly clock: Clock; readonly facts: Pick<History, 'fact' | 'keepFact'> }) {
    this.#clock = clock
    this.#facts = facts
  }

  /** Whether the clock can be trusted; see `clockDoubt`. Never throws: a note that cannot be read is a doubt. */
  doubt(traces: () => readonly Date[]): RetentionRefusal | null {
    try {
      return clockDoubt(this.#noted(), traces, this.#clock.now())
    } catch (error) {
      return {
        cause: 'clock-unknown',
        message: `the note of what the clock had shown cannot be read: ${error instanceof Error ? error.message : String(error)}`,
        hint: 'see whether the state directory can be read; if the clock is right: lifeboat expire --confirm-clock',
      }
    }
  }

  /** Like `doubt`, and notes the present moment where there is none. Throws when it cannot be noted. */
  look(traces: () => readonly Date[]): RetentionRefusal | null {
    const doubt = this.doubt(traces)
    if (doubt === null) this.confirm()
    return doubt
  }

  /** Somebody says that the clock is right: what it shows counts from now on. */
  confirm(): void {
    this.#facts.keepFact(factName, this.#clock.now().toISOString())
  }

  #noted(): Date | null {
    const text = this.#facts.fact(factName)
    if (text === null) return null
    const at = new Date(text)
    if (Number.isNaN(at.getTime())) throw new LifeboatError('storage-failed', `${JSON.stringify(text)} is not a time`)
    return at
  }
}
