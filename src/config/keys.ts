import type { Annotations } from './kinds.ts'
import { configSchema } from './schema.ts'

/** A schema as the loader and the documentation walk it: the fields of JSON Schema that configSchema uses. */
export interface SchemaNode extends Annotations {
  readonly type?: string
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly required?: readonly string[]
  readonly items?: SchemaNode
  /** Of a list: its example is shown as a comment. */
  readonly isOptional?: boolean
  readonly minItems?: number
  readonly minLength?: number
  readonly minimum?: number
  readonly anyOf?: readonly SchemaNode[]
}

// TypeBox's types do not carry the annotations that its schemas hold.
export const rootNode = configSchema as unknown as SchemaNode

/** A key that holds a value or a list, wherever it stands outside of lists. */
export interface Key {
  readonly path: readonly string[]
  readonly node: SchemaNode
  /** The environment variable that overrides it. */
  readonly variable: string
}

/** `postgres.passwordFile` as `LIFEBOAT_POSTGRES_PASSWORD_FILE`. */
export function variableOf(path: readonly string[]): string {
  return `LIFEBOAT_${path.map((part) => part.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()).join('_')}`
}

/** Every key below a section, in the order of the schema. Keys of the elements of a list are not among them. */
export function keysBelow(node: SchemaNode = rootNode, path: readonly string[] = []): Key[] {
  return Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
    const at = [...path, name]
    return child.properties ? keysBelow(child, at) : [{ path: at, node: child, variable: variableOf(at) }]
  })
}
