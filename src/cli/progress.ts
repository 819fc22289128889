import { type Clock, systemClock } from '../clock.ts'
import type { Progress, Run } from '../runner/job.ts'
import type { CliContext } from './command.ts'
import { formatBytes, formatSeconds, oneLine } from './format.ts'

/** Before that a rate is chance. */
const settleMs = 3_000

type Terminal = Pick<CliContext['err'], 'write' | 'isTTY' | 'columns'>

/** Shows how far a run is: one line that is rewritten on a terminal, nothing elsewhere. */
export class ProgressLine {
  readonly #stream: Terminal
  readonly #shown: boolean
  readonly #clock: Clock
  /** Where the part that is under way began: a run counts to a new total for each. */
  #began: { readonly total: number; readonly done: number; readonly atMs: number } | null = null

  constructor(
    stream: Terminal,
    { shown = stream.isTTY === true, clock = systemClock }: { readonly shown?: boolean; readonly clock?: Clock } = {},
  ) {
    this.#stream = stream
    this.#shown = shown
    this.#clock = clock
  }

  show(run: Pick<Run, 'progress'>): void {
    if (!this.#shown || run.progress === null) return
    const width = Math.max(20, (this.#stream.columns ?? 80) - 1)
    const text = progressText(run.progress, this.#left(run.progress))
    this.#stream.write(`\r\u001b[K${text.slice(0, width)}`)
  }

  /** How much longer this part takes at the rate that it had so far; empty while that says nothing. */
  #left({ done, total, unit }: Progress): string {
    const atMs = this.#clock.monotonic()
    if (total === null || total === 0 || unit !== 'bytes') {
      this.#began = null
      return ''
    }
    if (this.#began === null || this.#began.total !== total || done < this.#began.done)
      this.#began = { total, done, atMs }
    const [took, came] = [atMs - this.#began.atMs, done - this.#began.done]
    if (took < settleMs || came <= 0 || done >= total) return ''
    return `, about ${formatSeconds(((took / came) * (total - done)) / 1000)} left`
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K')
  }
}

/** `42 % of 1.4 GiB, about 3 min 2 s left  dumping public.users`; control characters of names are left out. */
export function progressText({ done, total, unit, message }: Progress, left = ''): string {
  const amount = (value: number) => (unit === 'bytes' ? formatBytes(value) : `${value} ${unit}`)
  const ratio =
    total === null || total === 0
      ? amount(done)
      : unit === 'percent'
        ? `${done} %`
        : `${Math.floor((done / total) * 100)} % of ${amount(total)}`
  return `${`${ratio}${left}`.padEnd(18)} ${oneLine(message ?? '')}`
}
