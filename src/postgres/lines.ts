import { StringDecoder } from 'node:string_decoder'

/** Cuts a byte stream into lines. A line over the limit is cut there, so that a program cannot fill our memory. */
export class LineReader {
  readonly #onLine: (line: string) => void
  readonly #maxLength: number
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''

  constructor(onLine: (line: string) => void, maxLength = 16 * 1024) {
    this.#onLine = onLine
    this.#maxLength = maxLength
  }

  push(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n')
    this.#rest = (lines.pop() ?? '').slice(0, this.#maxLength)
    for (const line of lines) this.#onLine(line.slice(0, this.#maxLength))
  }

  /** Hands out an unfinished last line. */
  end(): void {
    const last = this.#rest + this.#decoder.end()
    this.#rest = ''
    if (last !== '') this.#onLine(last)
  }
}

/** Keeps the last lines of an output, up to a number of characters. */
export class Tail {
  readonly #maxLength: number
  #lines: string[] = []
  #length = 0

  constructor(maxLength: number) {
    this.#maxLength = maxLength
  }

  push(line: string): void {
    this.#lines.push(line)
    this.#length += line.length + 1
    while (this.#length > this.#maxLength && this.#lines.length > 1) {
      this.#length -= (this.#lines.shift() as string).length + 1
    }
  }

  text(): string {
    return this.#lines.join('\n')
  }
}
