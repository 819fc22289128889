import { LifeboatError } from '../domain/errors.ts'

const pattern =
  /^(\d{4}-(?:0[1-9]|1[0-2])-\d{2})(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))?$/

/** A date, which begins at midnight UTC, or a date and a time with its offset (RFC 3339). @throws LifeboatError `usage-invalid` */
export function parseMoment(text: string): Date {
  const [, day] = pattern.exec(text) ?? []
  const found = new Date(text)
  // The 31st of February is taken for a day in March.
  const isDay = day !== undefined && new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
  if (isDay && !Number.isNaN(found.getTime())) return found
  throw new LifeboatError('usage-invalid', 'must be a date, or a date and a time with its offset from UTC', {
    hint: 'e.g. 2027-01-01 or 2027-01-01T12:00:00Z',
  })
}
