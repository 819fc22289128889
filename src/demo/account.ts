import { styleText } from 'node:util'
import type { Change } from './series.ts'

/** Prints what the demo does, in lines of less than 80 columns. */
export interface Account {
  /** Heads the next act. */
  act(title: string): void
  /** What was done or found. */
  tell(text: string): void
  /** What a person would type for it, in words that are kept on one line each. */
  type(...words: readonly string[]): void
  /** Something that had to be so, and whether it was. */
  check(held: boolean, text: string): void
  changes(changes: readonly Change[]): void
  /** True while every check held. */
  readonly good: boolean
}

/** Colours only where a person sees them: on a terminal, unless NO_COLOR is set (https://no-color.org). */
export function createAccount(out: NodeJS.WritableStream & { readonly isTTY?: boolean }, noColor: boolean): Account {
  const coloured = out.isTTY === true && !noColor
  const style = (format: Parameters<typeof styleText>[0], text: string) =>
    coloured ? styleText(format, text, { validateStream: false }) : text
  const write = (text: string) => out.write(`${text}\n`)
  let acts = 0
  let good = true
  return {
    act: (title) => {
      acts += 1
      write(`\n${style('bold', `${acts}. ${title}`)}`)
    },
    tell: (text) => write(`   ${wrap(text, 3)}`),
    type: (...words) => write(`   $ ${style('bold', words.join(' \\\n       '))}`),
    check: (held, text) => {
      good &&= held
      write(held ? `   ${style('green', 'ok')} ${wrap(text, 6)}` : `   ${style('red', 'NOT SO:')} ${wrap(text, 11)}`)
    },
    changes: (list) => {
      let name = ''
      for (const change of list) {
        if (change.name !== name) write(`     ${style('cyan', change.name)}`)
        name = change.name
        const values = `${show(name, change.before)} -> ${style('bold', show(name, change.after))}`
        write(`       ${change.labels.join(' ').padEnd(36)} ${values}`)
      }
    },
    get good() {
      return good
    },
  }
}

/** Breaks a text at its blanks; the lines after the first are indented as far as the first begins. */
function wrap(text: string, indent: number): string {
  const lines = ['']
  for (const word of text.split(/\s+/)) {
    const line = `${lines.at(-1)} ${word}`.trimStart()
    if (indent + line.length < 80 || lines.at(-1) === '') lines[lines.length - 1] = line
    else lines.push(word)
  }
  return lines.join(`\n${' '.repeat(indent)}`)
}

/** A value as a person reads it: moments as such, sizes in their unit; a series that is not there is `none`. */
function show(name: string, value: number | null): string {
  if (value === null) return 'none'
  if (name.endsWith('_timestamp_seconds')) return new Date(value * 1000).toISOString().slice(0, 19).concat('Z')
  if (name.endsWith('_bytes')) return megabytes(value)
  return name.endsWith('_seconds') ? seconds(value * 1000) : String(value)
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
