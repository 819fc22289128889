import { spawnSync } from 'node:child_process'

/** One series of a Prometheus text, its labels unescaped. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Parses the Prometheus text format 0.0.4 strictly: a line that does not fit throws. */
export function parseExposition(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s.exec(line)
      if (match === null) throw new Error(`not a sample: ${line}`)
      const [, name = '', inside = '', value = ''] = match
      const labels: Record<string, string> = {}
      let rest = inside
      while (rest !== '') {
        const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)/.exec(rest)
        if (label === null) throw new Error(`not a label: ${rest}`)
        const [whole, key = '', quoted = ''] = label
        labels[key] = quoted.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character))
        rest = rest.slice(whole.length)
      }
      return { name, labels, value: Number(value) }
    })
}

/** What `promtool check metrics` says about the text; empty when it has nothing to say. */
export function promtoolComplaints(text: string): string {
  const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  })
  if (error !== undefined) throw error
  return status === 0 ? `${stdout}${stderr}` : `exit ${status}: ${stdout}${stderr}`
}
