/** What a template is filled with. */
export interface Context {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Four significant digits, as `%.4g` of Go for numbers that are neither huge nor tiny. */
const short = (value: number) => String(Number(value.toPrecision(4)))

const functions: Readonly<Record<string, (value: number) => string>> = {
  humanizeDuration(value) {
    if (Math.abs(value) < 1) return `${short(value)}s`
    const sign = value < 0 ? '-' : ''
    const whole = Math.trunc(Math.abs(value))
    const [days, hours, minutes, seconds] = [
      Math.floor(whole / 86_400),
      Math.floor(whole / 3600) % 24,
      Math.floor(whole / 60) % 60,
      whole % 60,
    ]
    if (days > 0) return `${sign}${days}d ${hours}h ${minutes}m ${seconds}s`
    if (hours > 0) return `${sign}${hours}h ${minutes}m ${seconds}s`
    return minutes > 0 ? `${sign}${minutes}m ${seconds}s` : `${short(value)}s`
  },
  humanizePercentage: (value) => `${short(value * 100)}%`,
  humanize1024(value) {
    const prefixes = ['', 'Ki', 'Mi', 'Gi', 'Ti']
    let rest = value
    let index = 0
    while (Math.abs(rest) >= 1024 && index < prefixes.length - 1) {
      rest /= 1024
      index++
    }
    return `${short(rest)}${prefixes[index]}`
  },
  'printf "%.2f"': (value) => value.toFixed(2),
  'printf "%.0f"': (value) => value.toFixed(0),
  '': (value) => String(value),
}

/**
 * The part of Prometheus's templates that the rules use, so that their texts can be expected; Prometheus expands them itself
 * in the same tests. Throws on what it does not know, and on a label that the alert does not have.
 */
export function expand(text: string, { labels, value }: Context): string {
  const ofLabel = (name: string) => {
    const found = labels[name]
    if (found === undefined) throw new Error(`the alert has no label ${name}`)
    return found
  }
  const expanded = text
    .replaceAll(/\{\{ with \$labels\.(\w+) \}\}(.*?)\{\{ end \}\}/g, (_, name: string, inside: string) => {
      const found = labels[name] ?? ''
      if (found === '') return ''
      return inside.replace('{{ . }}', found).replace('{{ . | urlquery }}', encodeURIComponent(found))
    })
    .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, (_, name: string) => ofLabel(name))
    .replaceAll(/\{\{ \$value(?: \| ([^}]+?))? \}\}/g, (_, name = '') => {
      const made = functions[name]
      if (made === undefined) throw new Error(`no function ${name}`)
      return made(value)
    })
  if (expanded.includes('{{')) throw new Error(`not understood: ${expanded}`)
  return expanded
}
