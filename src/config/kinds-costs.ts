import { LifeboatError } from '../domain/errors.ts'

const wrong = (message: string) => new LifeboatError('usage-invalid', message)

/** A calendar day that exists, e.g. 2026-11-20. */
function isDay(text: string): boolean {
  const day = new Date(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : Number.NaN)
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text)
}

const largestPrice = 1_000_000

/** Kinds of the key `costs`; see kinds.ts. */
export const costKinds = {
  price: {
    label: 'dollars',
    expected: 'a number of dollars without a sign, e.g. 0.023',
    shown: true,
    check: (value: unknown) => {
      if (Number(value) < 0) throw wrong('must not be negative')
      if (Number(value) > largestPrice) throw wrong(`must be at most ${largestPrice}`)
    },
  },
  priceClass: {
    label: 'storage class',
    expected: 'the name of a storage class',
    shown: true,
    check: (value: unknown) => {
      if (!/^[A-Za-z0-9_-]{1,63}$/.test(String(value))) throw wrong('is not the name of a storage class')
    },
  },
  day: {
    label: 'date',
    expected: 'a date in quotes, e.g. "2026-11-20"',
    shown: true,
    check: (value: unknown) => {
      if (!isDay(String(value))) throw wrong('is not a date: year, month and day, e.g. "2026-11-20"')
    },
  },
  shownText: {
    label: 'text',
    expected: 'a text',
    shown: true,
    check: (value: unknown) => {
      if (/\p{Cc}|\p{Cf}/u.test(String(value))) throw wrong('holds characters that cannot be shown')
    },
  },
} as const
