import type { Progress, Run } from '../runner/job.ts'
import type { CliContext } from './command.ts'
import { formatBytes, oneLine } from './format.ts'

/** Shows how far a run is: one line that is rewritten on a terminal, nothing elsewhere. */
export class ProgressLine {
  readonly #stream: CliContext['err']
  readonly #shown: boolean

  constructor(stream: CliContext['err'], shown = stream.isTTY === true) {
    this.#stream = stream
    this.#shown = shown
  }

  show(run: Pick<Run, 'progress'>): void {
    if (!this.#shown || run.progress === null) return
    const width = Math.max(20, (this.#stream.columns ?? 80) - 1)
    this.#stream.write(`\r\u001b[K${progressText(run.progress).slice(0, width)}`)
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K')
  }
}

/** `42 % of 1.4 GiB  dumping public.users`; control characters of names are left out. */
export function progressText({ done, total, unit, message }: Progress): string {
  const amount = (value: number) => (unit === 'bytes' ? formatBytes(value) : `${value} ${unit}`)
  const ratio =
    total === null || total === 0
      ? amount(done)
      : unit === 'percent'
        ? `${done} %`
        : `${Math.floor((done / total) * 100)} % of ${amount(total)}`
  return `${ratio.padEnd(18)} ${oneLine(message ?? '')}`
}
