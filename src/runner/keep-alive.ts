/**
 * Keeps the process from ending for as long as somebody holds it. Waiting on the Clock does not do that, rightly so for a
 * schedule; but a command that waits for its run would end without a word as soon as nothing but time was left to wait for.
 */
export class KeepAlive {
  #holders = 0
  #timer: NodeJS.Timeout | undefined

  /** Holds until the returned function is called; calling it again does nothing. */
  hold(): () => void {
    // The longest delay that a timer takes: it is here for its reference, not to fire.
    if (this.#holders === 0) this.#timer = setInterval(() => undefined, 2 ** 31 - 1)
    this.#holders += 1
    let holding = true
    return () => {
      if (!holding) return
      holding = false
      this.#holders -= 1
      if (this.#holders === 0) clearInterval(this.#timer)
    }
  }
}
