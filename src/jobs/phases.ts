import type { Clock } from '../clock.ts'

/** Seconds by phase of a run, summed where a phase comes more than once: what a recovery's duration is learned from. */
export class Phases {
  readonly #clock: Clock
  readonly #seconds: Record<string, number> = {}
  #current: { readonly name: string; readonly since: number } | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Ends the phase at hand, if any, and begins another. */
  begin(name: string): void {
    this.end()
    this.#current = { name, since: this.#clock.monotonic() }
  }

  end(): void {
    if (this.#current === null) return
    const { name, since } = this.#current
    this.#seconds[name] = (this.#seconds[name] ?? 0) + (this.#clock.monotonic() - since) / 1000
    this.#current = null
  }

  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    this.begin(name)
    try {
      return await work()
    } finally {
      this.end()
    }
  }

  /** Takes over what somebody else has measured. */
  add(seconds: Readonly<Record<string, number>>): void {
    for (const [name, more] of Object.entries(seconds)) this.#seconds[name] = (this.#seconds[name] ?? 0) + more
  }

  seconds(): Readonly<Record<string, number>> {
    return { ...this.#seconds }
  }
}
