/** One instruction of a Dockerfile. */
export interface Instruction {
  readonly name: string
  /** `--from=build` as `{ from: 'build' }`. */
  readonly flags: Readonly<Record<string, string>>
  /** The rest, with the arguments of the file's head filled in. */
  readonly text: string
  /** The words of the exec form (`["a", "b"]`), else those between blanks. */
  readonly words: readonly string[]
}

export interface BuildStage {
  readonly base: string
  /** Empty when it has none. */
  readonly name: string
  readonly instructions: readonly Instruction[]
}

/**
 * Reads as much of the format as our own file uses: continued lines, comments, flags, exec forms, and ARG before FROM.
 * Source: https://docs.docker.com/reference/dockerfile/
 */
export function parseDockerfile(source: string, buildArgs: Readonly<Record<string, string>> = {}): BuildStage[] {
  const stages: { base: string; name: string; instructions: Instruction[] }[] = []
  const head = new Map<string, string>()
  const lines = source
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join('\n')
    .replace(/\\\n/g, ' ')
    .split('\n')
  for (const line of lines.map((text) => text.trim()).filter((text) => text !== '')) {
    const instruction = parseInstruction(line)
    const [first = '', as = '', name = ''] = instruction.words
    if (instruction.name === 'FROM') {
      if (as !== '' && as.toUpperCase() !== 'AS') throw new Error(`not understood: ${line}`)
      stages.push({ base: fill(first, head), name, instructions: [] })
      continue
    }
    const stage = stages.at(-1)
    if (stage !== undefined) stage.instructions.push(instruction)
    else if (instruction.name === 'ARG') {
      const [key = '', value = ''] = instruction.text.split('=')
      head.set(key, buildArgs[key] ?? value)
    } else throw new Error(`before the first stage: ${line}`)
  }
  return stages
}

function parseInstruction(line: string): Instruction {
  const [, name = '', rest = ''] = /^(\S+)\s+(.*)$/.exec(line) ?? []
  const flags: Record<string, string> = {}
  const text = rest.replace(/^(?:--[a-z-]+=\S+\s+)+/, (all) => {
    for (const [, key = '', value = ''] of all.matchAll(/--([a-z-]+)=(\S+)/g)) flags[key] = value
    return ''
  })
  const list = /^(?:CMD\s+)?(\[.*\])$/.exec(text)?.[1]
  const words = list === undefined ? text.split(/\s+/) : (JSON.parse(list) as string[])
  return { name, flags, text, words }
}

function fill(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/\$\{(\w+)\}/g, (_, name: string) => {
    const value = values.get(name)
    if (value === undefined) throw new Error(`no value for ${name}`)
    return value
  })
}
