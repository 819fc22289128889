import { isObject } from './canonical.ts'

/** A document that does not have the shape it must have. The message names the field: `artifacts[0].name must be …`. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError'
}

/**
 * What a value must be like to be a T. Called with a value it returns null, or what is wrong: the rest of the path to
 * the field and a sentence, e.g. `[0].name must be a text, not 1`. Paths are put together only on the way back from a
 * fault, since ten thousand manifests without one are checked at every start.
 */
export interface Shape<T> {
  (value: unknown): string | null
  /** Never there: it ties the shape to its type, so that a shape of something else is a type error. */
  readonly type?: T
}

/** Returns the value, typed; fails with a ShapeError. */
export function checked<T>(shape: Shape<T>, value: unknown): T {
  const problem = shape(value)
  if (problem !== null) throw new ShapeError(problem.startsWith('.') ? problem.slice(1) : `the document${problem}`)
  return value as T
}

/** The document that JSON text is; null when it is no JSON, or does not have the shape: then nothing is known of it. */
export function parseOrNull<T>(shape: Shape<T>, bytes: Buffer): T | null {
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return checked(shape, value)
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof ShapeError) return null
    throw error
  }
}

/** Shows a value in a message, shortened. */
function show(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value)
  return json.length > 60 ? `${json.slice(0, 60)}…` : json
}

/** A shape from a test: `expected` completes the sentence "<field> must be …". */
export function satisfying<T>(expected: string, test: (value: unknown) => boolean): Shape<T> {
  return (value) => (test(value) ? null : ` must be ${expected}, not ${show(value)}`)
}

export function textThat(expected: string, test: (value: string) => boolean): Shape<string> {
  return satisfying(expected, (value) => typeof value === 'string' && test(value))
}

export const text = textThat('a text', () => true)
export const nonEmptyText = textThat('a text that is not empty', (value) => value !== '')
export const sha256 = textThat('a SHA-256 in lower-case hex', (value) => /^[0-9a-f]{64}$/.test(value))

export function integer(min: number, max = Number.MAX_SAFE_INTEGER): Shape<number> {
  const expected = `a whole number from ${min} to ${max}`
  return satisfying(expected, (value) => Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max)
}

/** Fractions are allowed. */
export const seconds = satisfying<number>(
  'a number of seconds that is not negative',
  (value) => typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER,
)

const timePattern = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z$/

/** RFC 3339 in UTC with the letters in upper case, up to nine digits of a second, e.g. `2026-03-01T02:00:00.123Z`. */
export const timestamp = textThat('a UTC time as in RFC 3339', (value) => {
  if (!timePattern.test(value)) return false
  const day = value.slice(8, 10)
  // JavaScript takes the 31st of February for a day in March.
  return day <= '28' || new Date(`${value.slice(0, 10)}T00:00:00Z`).toISOString().slice(8, 10) === day
})

export function oneOf<const T extends string>(values: readonly T[]): Shape<T> {
  return satisfying(`one of ${values.join(', ')}`, (value) => values.some((known) => known === value))
}

export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return (value) => (value === null ? null : shape(value))
}

export function listOf<T>(shape: Shape<T>): Shape<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value)) return ` must be a list, not ${show(value)}`
    for (let index = 0; index < value.length; index++) {
      const problem = shape(value[index])
      if (problem !== null) return `[${index}]${problem}`
    }
    return null
  }
}

/** An object with fields of any name that matches the pattern. Choose one that `__proto__` does not match. */
export function mapOf<T>(names: RegExp, shape: Shape<T>): Shape<Readonly<Record<string, T>>> {
  return (value) => {
    if (!isObject(value)) return ` must be an object, not ${show(value)}`
    for (const name of Object.keys(value)) {
      if (!names.test(name)) return ` must not have a field ${show(name)}`
      const problem = shape(value[name])
      if (problem !== null) return `.${name}${problem}`
    }
    return null
  }
}

/** An object with exactly these fields; those in `optional` may be missing. */
export function objectOf<T extends object>(
  shapes: { readonly [K in keyof T]-?: Shape<Required<T>[K]> },
  optional: readonly (keyof T)[] = [],
): Shape<T> {
  const known = new Map(Object.entries<Shape<unknown>>(shapes))
  const required = [...known.keys()].filter((name) => !optional.some((other) => other === name))
  return (value) => {
    if (!isObject(value)) return ` must be an object, not ${show(value)}`
    for (const name of required) {
      if (!Object.hasOwn(value, name)) return `.${name} is missing`
    }
    for (const name of Object.keys(value)) {
      const shape = known.get(name)
      if (shape === undefined) return ` must not have a field ${show(name)}`
      const problem = shape(value[name])
      if (problem !== null) return `.${name}${problem}`
    }
    return null
  }
}
