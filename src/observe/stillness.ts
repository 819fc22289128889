/**
 * Since when nothing has changed about files that may still grow, by the monotonic time of the looks at them: neither a
 * clock that is set nor a file server with a clock of its own makes a file look quiet.
 */
export class Stillness {
  readonly #since = new Map<string, number>()

  /**
   * Notes a look at a file.
   *
   * @param isSame nothing about it changed since the look before
   * @param before milliseconds for which it had been still before it was seen for the first time
   * @returns milliseconds for which it has been still
   */
  note(name: string, now: number, { isSame, before }: { isSame: boolean; before: number }): number {
    const since = isSame ? (this.#since.get(name) ?? now) : now - before
    this.#since.set(name, since)
    return now - since
  }

  /** Somebody holds it: its quiet time begins anew. */
  restart(name: string, now: number): void {
    this.#since.set(name, now)
  }

  /** It is finished, or gone. */
  forget(name: string): void {
    this.#since.delete(name)
  }

  /** Milliseconds until the first of them has been still for `quietMs`; null when there is none. */
  untilQuiet(quietMs: number, now: number): number | null {
    let first: number | null = null
    for (const since of this.#since.values()) first = Math.min(first ?? since, since)
    return first === null ? null : Math.max(0, first + quietMs - now)
  }
}
