import type { AlertValue, Value } from './scenario.ts'

/** A moment that lies so many limits ago, at any time. */
export const ago =
  (limits: number): Value =>
  ({ t, limit }) =>
    t - limits * limit

/** A moment that lies so many seconds ahead, at any time; negative: ago. */
export const ahead =
  (seconds: number): Value =>
  ({ t }) =>
    t + seconds

/** A moment that is not a second beyond the limit. */
export const justInTime = ago(1)

export const limit: Value = (now) => now.limit

export const ageOf: AlertValue = (x, { t }) => t - x

/** A counter that goes up by so much with each sample, from when things go wrong. */
export const counting =
  (each: number): Value =>
  ({ since, step }) =>
    Math.max(0, since / step + 1) * each
