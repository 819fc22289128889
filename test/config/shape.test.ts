import fc from 'fast-check'
import t from 'tap'
import { Check } from 'typebox/value'
import { parse } from 'yaml'
import { renderExample } from '../../src/config/document.ts'
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
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.constant([]),
    fc.constant({}),
    fc.constant('1h'),
  )
  const keys = Object.keys((configSchema as unknown as { properties: object }).properties)
  fc.assert(
    fc.property(fc.constantFrom(...keys), values, (key, value) => {
      const checked = accepted({ ...minimal, [key]: value })
      return checked === null || Check(configSchema, checked)
    }),
    { numRuns: 500 },
  )
})
