import { hookVariables } from './hooks.ts'
import { type Key, keysBelow, type SchemaNode, variableOf } from './keys.ts'
import type { Problems } from './problems.ts'
import { readYaml } from './read.ts'
import { isRecord } from './shape.ts'
import { nearest } from './suggest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const prefix = 'LIFEBOAT_'
/** Names the file; read before it. */
export const fileVariable = 'LIFEBOAT_CONFIG'
/** Marks what lifeboat has started: a server that recovers, and so the lifeboat that gets its WAL. */
const markVariable = 'LIFEBOAT_WORK'

// Kubernetes gives every container variables about every service of its namespace: of one that is called `lifeboat`, or
// `lifeboat-metrics`, they begin with our prefix. A pod must not stop starting because somebody made a service.
const serviceLink = /^LIFEBOAT_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)$/
const isServiceLink = (name: string, value: string) =>
  serviceLink.test(name) || (/^LIFEBOAT_(?:\w+_)?PORT$/.test(name) && /^(?:tcp|udp|sctp):\/\//.test(value))

/** The keys that the environment sets. An empty variable counts as not set: that is how compose files pass "nothing". */
export function keysFromEnvironment(env: Environment): Key[] {
  return keysBelow().filter(({ variable }) => (env[variable] ?? '') !== '')
}

/**
 * The configuration with every key that the environment sets put in place, over what the file says. `tree` is not changed.
 */
export function applyEnvironment(tree: unknown, env: Environment, problems: Problems): unknown {
  let result = tree
  for (const key of keysFromEnvironment(env)) {
    result = withValue(result, key.path, parseVariable(key, env[key.variable] ?? '', problems))
  }
  // The password has two keys: the environment's word on one of them replaces the file's on the other.
  const inline = (env[variableOf(['postgres', 'password'])] ?? '') !== ''
  const byFile = (env[variableOf(['postgres', 'passwordFile'])] ?? '') !== ''
  if (inline && !byFile) result = without(result, ['postgres', 'passwordFile'])
  if (byFile && !inline) result = without(result, ['postgres', 'password'])
  return result
}

/** Complains about variables with our prefix that set nothing: a misspelt one would otherwise be a silent default. */
export function checkVariables(env: Environment, problems: Problems): void {
  // A hook may call lifeboat itself: what it was told of the run is no part of the configuration.
  const facts: readonly string[] = env.LIFEBOAT_WHEN && env.LIFEBOAT_RUN_ID ? hookVariables : []
  const known = keysBelow().map(({ variable }) => variable)
  for (const name of Object.keys(env).sort()) {
    const value = env[name] ?? ''
    if (
      !name.startsWith(prefix) ||
      name === fileVariable ||
      name === markVariable ||
      known.includes(name) ||
      facts.includes(name) ||
      isServiceLink(name, value)
    )
      continue
    const meant = nearest(
      name.slice(prefix.length),
      [...known, fileVariable].map((other) => other.slice(prefix.length)),
    )
    const hint = meant ? `Did you mean ${prefix}${meant}?` : undefined
    problems.add([name], 'is not a variable of the configuration', hint)
  }
}

/** What the text of a variable stands for. A text of the wrong form stays a text: the schema's check tells what is wrong. */
function parseVariable({ path, node }: Key, text: string, problems: Problems): unknown {
  if (!node.items) return scalarOf(node, text)
  // A list of texts is split at its commas, unless it is written as a YAML or JSON list, for names with commas in them.
  if (!node.items.properties && !text.trimStart().startsWith('[')) {
    return text.split(',').map((part) => part.trim())
  }
  const { tree, errors } = readYaml(text)
  if (errors[0]) problems.add(path, `cannot be read: ${errors[0].message}`, 'Write a YAML or JSON list, e.g. [{ … }].')
  return tree
}

function scalarOf(node: SchemaNode, text: string): unknown {
  if (node.kind === 'integer' && /^-?\d{1,15}$/.test(text)) return Number(text)
  if (node.kind === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

function withValue(tree: unknown, path: readonly string[], value: unknown): unknown {
  const [name, ...rest] = path
  if (name === undefined) return value
  // A file that has a text where a section belongs keeps it: the schema's check tells so.
  if (tree !== undefined && tree !== null && !isRecord(tree)) return tree
  const record = tree ?? {}
  return { ...record, [name]: withValue((record as Readonly<Record<string, unknown>>)[name], rest, value) }
}

function without(tree: unknown, [name, ...rest]: readonly string[]): unknown {
  if (name === undefined || !isRecord(tree) || !Object.hasOwn(tree, name)) return tree
  const { [name]: removed, ...others } = tree
  return rest.length === 0 ? others : { ...others, [name]: without(removed, rest) }
}
