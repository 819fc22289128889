import fc from 'fast-check'
import t from 'tap'
import { Check } from 'typebox/value'
import { parse } from 'yaml'
import { renderExample } from '../../src/config/document.ts'
import { keysBelow } from '../../src/config/keys.ts'
import { Problems } from '../../src/config/problems.ts'
import { configSchema } from '../../src/config/schema.ts'
import { checkShape } from '../../src/config/shape.ts'
import { LifeboatError } from '../../src/domain/errors.ts'

/** The tree with its defaults, or null if it has problems. */
function accepted(tree: unknown): unknown {
  const problems = new Problems(() => undefined)
  const checked = checkShape(tree, problems)
  try {
    problems.throwIfAny()
    return checked
  } catch (error) {
    if (error instanceof LifeboatError) return null
    throw error
  }
}

t.test('what the checks let through, the schema accepts', async (t) => {
  const minimal = { cluster: 'a', repositories: [{ name: 'local', url: 'file:///x' }] }
  for (const tree of [minimal, parse(renderExample()) as unknown]) {
    const checked = accepted(tree)
    t.not(checked, null)
    t.ok(Check(configSchema, checked))
  }
  const values = fc.oneof(
    ...[fc.string(), fc.integer(), fc.double(), fc.boolean()],
    ...[null, [], {}, '', '1h', '64MiB', 'data', -1, 1.5].map((value) => fc.constant(value)),
  )
  const paths = [
    ...Object.keys((configSchema as unknown as { properties: object }).properties).map((key) => [key]),
    ...keysBelow().map(({ path }) => path),
    ['repositories', 'name'],
    ['verification', 'assertions', 'expect'],
  ]
  fc.assert(
    fc.property(fc.constantFrom(...paths), values, (path, value) => {
      const tree: Record<string, unknown> = structuredClone(minimal)
      put(tree, path, value)
      const checked = accepted(tree)
      return checked === null || Check(configSchema, checked)
    }),
    { numRuns: 3000 },
  )
})

/** Sets what is at a path; on the way an element of a list stands for the list. */
function put(tree: Record<string, unknown>, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  if (key === 'assertions') tree[key] = [{ database: 'a', sql: 'select 1', expect: 1 }]
  tree[key] ??= {}
  const child = tree[key] as Record<string, unknown> | [Record<string, unknown>]
  put(Array.isArray(child) ? child[0] : child, rest, value)
}
