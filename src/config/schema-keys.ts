import { Type } from 'typebox'
import type { Annotations } from './kinds.ts'

/** A key: every one has a description, and a default or a word on what happens without it. */
type Key = Annotations & { readonly description: string }
type Section = { readonly description: string; readonly absent?: string }

export const text = (key: Key) => Type.String({ kind: 'text', minLength: 1, ...key })
export const integer = (key: Key) => Type.Integer({ kind: 'integer', ...key })
export const boolean = (key: Key) => Type.Boolean({ kind: 'boolean', ...key })
export const duration = (key: Key) => Type.String({ kind: 'duration', minLength: 1, ...key })
export const size = (key: Key) => Type.Union([Type.String(), Type.Integer({ minimum: 0 })], { kind: 'size', ...key })
export const schedule = (key: Key) => Type.Union([Type.String(), Type.Null()], { kind: 'schedule', ...key })
export const choice = <Values extends string[]>(values: readonly [...Values], key: Key) =>
  Type.Enum(values, { kind: 'choice', ...key })
export const section = <Keys extends Parameters<typeof Type.Object>[0]>(keys: Keys, options?: Section) =>
  Type.Object(keys, { additionalProperties: false, ...options })

// Node's timers hold at most 2^31 - 1 milliseconds, 24.8 days, and fire at once when given more.
export const longestTimer = '14d'
