import { Cron } from 'croner'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'

/** Five fields, or a nickname: croner would also take seconds, years and single dates. */
const shape = /^(\S+\s+){4}\S+$|^@[a-z]+$/i

/** Longest sleep: how late a slot can be after the clock was set forward or the machine was suspended. */
const sliceMs = 60_000

/** More than a minute-by-minute schedule has in a day. */
const rememberedSlots = 2000

/**
 * The first moment after `after` at which a cron expression is due, in UTC whatever the time zone of the process; null
 * when there is none (`0 0 30 2 *`).
 * @param expression five fields (minute, hour, day of month, month, day of week) or a nickname such as `@daily`.
 * @throws LifeboatError `config-invalid` when the expression is not valid.
 */
export function nextRun(expression: string, after: Date): Date | null {
  return parse(expression).nextRun(after)
}

/** The newest moment, `until` at the latest, at which it was due; null when there is none. Throws as `nextRun` does. */
export function previousRun(expression: string, until: Date): Date | null {
  // It looks strictly before what it is given, in whole seconds.
  const after = new Date(Math.floor(until.getTime() / 1000) * 1000 + 1000)
  return parse(expression).previousRuns(1, after)[0] ?? null
}

function parse(expression: string): Cron {
  const trimmed = expression.trim()
  const hint = 'Write five fields: minute, hour, day of month, month, day of week, e.g. "0 2 * * *". Times are UTC.'
  if (!shape.test(trimmed)) {
    throw new LifeboatError('config-invalid', `${JSON.stringify(expression)} is not a cron expression`, { hint })
  }
  try {
    return new Cron(trimmed, { utcOffset: 0, mode: '5-part', paused: true })
  } catch (cause) {
    throw new LifeboatError('config-invalid', `${JSON.stringify(expression)} is not a cron expression`, { hint, cause })
  }
}

/**
 * Calls back when a cron expression is due. It looks at the wall clock at least once a minute instead of trusting one
 * long timer, so it holds when the clock is set or the machine sleeps:
 * a slot that was jumped over runs once, late (several of them: once);
 * a slot that comes again since the clock was set back does not run again, and the schedule goes on from the new time.
 */
export class ScheduleTimer {
  readonly #cron: Cron
  readonly #clock: Clock
  readonly #done: number[] = []
  #next: Date | null = null

  /** @throws LifeboatError `config-invalid` when the expression is not valid. */
  constructor(expression: string, clock: Clock) {
    this.#cron = parse(expression)
    this.#clock = clock
  }

  /** The slot it waits for; null before `run`, after its end, and when no slot will ever come. */
  get next(): Date | null {
    return this.#next
  }

  /** A slot that is not to come again: an earlier process saw to it, and the clock was set back since. To be called before `run`. */
  skip(slot: Date): void {
    this.#done.push(slot.getTime())
  }

  /** Calls `due` with each slot when it has come, until the signal aborts, then resolves. `due` must not throw. */
  async run(due: (slot: Date) => void, signal: AbortSignal): Promise<void> {
    let seen = this.#clock.now()
    this.#next = this.#nextSlot(seen)
    while (!signal.aborted) {
      const now = this.#clock.now()
      if (now < seen) this.#next = this.#nextSlot(now)
      seen = now
      if (this.#next !== null && now >= this.#next) {
        const slot = this.#next
        this.#done.push(slot.getTime())
        if (this.#done.length > rememberedSlots) this.#done.shift()
        this.#next = this.#nextSlot(now)
        due(slot)
      }
      const wait = this.#next === null ? sliceMs : Math.min(sliceMs, this.#next.getTime() - now.getTime())
      await this.#clock.sleep(wait, signal).catch(() => undefined)
    }
    this.#next = null
  }

  #nextSlot(after: Date): Date | null {
    let slot = this.#cron.nextRun(after)
    while (slot !== null && this.#done.includes(slot.getTime())) slot = this.#cron.nextRun(slot)
    return slot
  }
}
