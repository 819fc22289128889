import { LifeboatError } from '../domain/errors.ts'
import type { JobParams } from './job.ts'

/**
 * The params as one JSON text, the same for equal params whatever the order of their keys. JSON escapes what SQLite's
 * text would change (lone surrogates), so any string survives.
 * @throws LifeboatError `usage-invalid` for a value that JSON cannot tell from another (NaN, infinities, objects).
 */
export function canonicalParams(params: JobParams): string {
  const entries = Object.entries(params).sort(([left], [right]) => (left < right ? -1 : 1))
  for (const [key, value] of entries) {
    const plain = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value)
    if (!plain) throw new LifeboatError('usage-invalid', `parameter ${JSON.stringify(key)} is not a plain JSON value`)
  }
  return JSON.stringify(Object.fromEntries(entries))
}
