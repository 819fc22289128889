import { type TSchema, Type } from 'typebox'

/* Parts of which several schemas of the API are made. */

export const moment = (description: string) => Type.String({ format: 'date-time', description })
export const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

export const FailureSchema = Type.Object({
  code: Type.String({ description: 'Stable' }),
  message: Type.String(),
  hint: Type.Optional(Type.String()),
})

export const HookResultSchema = Type.Object({
  name: Type.String(),
  when: Type.Enum(['before', 'after']),
  outcome: Type.Enum(['succeeded', 'failed']),
  failure: Type.Optional(FailureSchema),
  durationSeconds: Type.Number(),
})
