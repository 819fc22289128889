import { LifeboatError } from '../domain/errors.ts'
import { keysBelow, rootNode, type SchemaNode } from './keys.ts'
import { describeValue, kinds } from './kinds.ts'
import { formatKey, type KeyPath, type Problems } from './problems.ts'
import { nearest } from './suggest.ts'

/**
 * Checks a configuration against the schema, key by key, and fills in the defaults. Every problem goes to `problems`; a
 * value with a problem is left out of the result, so that the checks between keys look at sound values only.
 */
export function checkShape(tree: unknown, problems: Problems): unknown {
  return checkNode(rootNode, tree ?? {}, [], problems)
}

function checkNode(node: SchemaNode, value: unknown, path: KeyPath, problems: Problems): unknown {
  if (node.properties) return checkSection(node, node.properties, value, path, problems)
  if (node.items) return checkList(node, node.items, value, path, problems)
  return checkLeaf(node, value, path, problems)
}

function checkSection(
  node: SchemaNode,
  properties: Readonly<Record<string, SchemaNode>>,
  value: unknown,
  path: KeyPath,
  problems: Problems,
): unknown {
  if (!isRecord(value)) {
    problems.add(path, `must be a section with keys of its own, not ${describeValue(value, undefined)}`)
    return undefined
  }
  const names = Object.keys(properties)
  for (const name of Object.keys(value)) {
    if (!names.includes(name)) complainUnknown(name, names, path, problems)
  }
  const found: Record<string, unknown> = {}
  for (const [name, child] of Object.entries(properties)) {
    const at = [...path, name]
    // A section whose keys are all commented out is null in YAML; it means what leaving it out means.
    const empty = !Object.hasOwn(value, name) || (child.properties !== undefined && value[name] === null)
    const given = empty ? fallback(child) : value[name]
    if (given !== undefined) {
      const checked = checkNode(child, given, at, problems)
      if (checked !== undefined) found[name] = checked
    } else if (node.required?.includes(name)) {
      const example = typeof child.example === 'string' ? `, e.g. ${child.example}` : ''
      problems.add(at, 'is missing', `${child.description ?? ''} Set it${example}.`.trim())
    }
  }
  return found
}

/** What stands for a key that was left out: undefined when nothing does. A section's keys have defaults of their own. */
function fallback(node: SchemaNode): unknown {
  if (node.properties) return node.absent === undefined ? {} : undefined
  return structuredClone(node.default)
}

function checkList(node: SchemaNode, items: SchemaNode, value: unknown, path: KeyPath, problems: Problems): unknown {
  if (!Array.isArray(value)) {
    problems.add(path, `must be a list, not ${describeValue(value, undefined)}`)
    return undefined
  }
  if (value.length < (node.minItems ?? 0)) {
    problems.add(path, 'is an empty list', node.absent ? `Leave the key out for ${node.absent}.` : 'Give at least one.')
  }
  // The place of an element that has a problem stays, so that the others keep their indexes.
  return value.map((item, index) => checkNode(items, item, [...path, index], problems))
}

function checkLeaf(node: SchemaNode, value: unknown, path: KeyPath, problems: Problems): unknown {
  const rules = kinds[node.kind ?? 'text']
  if (value === '' && node.kind !== 'scalar') {
    problems.add(path, 'is empty', 'Give it a value, or leave the key out.')
    return undefined
  }
  if (!fits(node, value)) {
    const expected = node.enum ? `one of ${node.enum.join(', ')}` : rules.expected
    problems.add(path, `must be ${expected}, not ${describeValue(value, node.kind)}`, typeHint(node, value))
    return undefined
  }
  try {
    if ('check' in rules) rules.check(value, node)
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    problems.add(path, error.message, error.hint)
    return undefined
  }
  return value
}

/**
 * Whether a value has the JSON type of a leaf. A test holds it against the schema's own checker, which would cost every
 * process its modules: 4 MB of memory and a tenth of a second at start.
 */
function fits(node: SchemaNode, value: unknown): boolean {
  if (node.anyOf) return node.anyOf.some((one) => fits(one, value))
  if (node.enum) return node.enum.some((one) => one === value)
  switch (node.type) {
    case 'string':
      return typeof value === 'string' && value.length >= (node.minLength ?? 0)
    case 'integer':
      return Number.isSafeInteger(value) && Number(value) >= (node.minimum ?? Number.NEGATIVE_INFINITY)
    case 'number':
      return Number.isFinite(value)
    case 'boolean':
      return typeof value === 'boolean'
    default:
      return node.type === 'null' && value === null
  }
}

function typeHint(node: SchemaNode, value: unknown): string | undefined {
  if (value === null) return 'Give it a value, or leave the key out.'
  if (node.enum && typeof value === 'string') {
    const meant = nearest(value, node.enum)
    return meant && `Did you mean ${meant}?`
  }
  if (node.kind === 'duration' && typeof value === 'number') return `Add a unit, e.g. ${value}s or ${value}m.`
  if (node.kind === 'listen' && typeof value === 'number') return `Write ":${value}" for every interface.`
  if (node.type === 'string' && (typeof value === 'number' || typeof value === 'boolean')) return 'Put it in quotes.'
  return undefined
}

function complainUnknown(name: string, siblings: readonly string[], path: KeyPath, problems: Problems): void {
  const at = [...path, name]
  const sibling = nearest(name, siblings)
  // `host` for `postgres.host`, and `verification.maxAge` for `policy.verificationMaxAge`.
  const names = [name, at.join('')].map((one) => one.toLowerCase())
  const elsewhere = keysBelow().find((key) => names.includes(key.path.at(-1)?.toLowerCase() ?? ''))
  const meant = sibling ? formatKey([...path, sibling]) : elsewhere && formatKey(elsewhere.path)
  problems.add(at, 'is not a key of the configuration', meant ? `Did you mean ${meant}?` : undefined)
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
