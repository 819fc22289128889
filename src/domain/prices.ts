/*
 * Prices of storage, as providers publish them: dollars for a gigabyte and month, for a thousand requests, for a gigabyte that is
 * read. Lifeboat knows none by itself: all of them come from the configuration.
 */

/** A month is 730 hours (30.4 days), a twelfth of a year, as in the calculators of the providers. */
export const monthSeconds = 730 * 3600

/** What objects without a class, and all files in a directory, are billed as. */
export const standardClass = 'STANDARD'

/** Prices of one storage class, dollars. Null: the table does not say, and what it is for is not estimated; free is 0. */
export interface ClassPrices {
  readonly storageClass: string
  /** For a gigabyte and month. */
  readonly storage: number
  /** For a thousand requests that write or list. */
  readonly put: number | null
  /** For a thousand requests that read or look. */
  readonly get: number | null
  /** For a gigabyte that is read. */
  readonly retrieval: number | null
  /** For a thousand objects that a rule of the bucket moves into this class. */
  readonly transition: number | null
  /** For a thousand objects and month, whatever their size. */
  readonly monitoring: number
  /** What is removed earlier is billed for so long all the same. */
  readonly minimumSeconds: number
  /** A smaller object is billed as one of so many bytes. */
  readonly minimumBytes: number
  /** Billed with each object besides its own bytes. */
  readonly overheadBytes: number
}

export interface PriceTable {
  readonly name: string
  /** The day on which somebody looked them up, `2026-11-20`. */
  readonly asOf: string
  /** Where. */
  readonly source: string
  /** What the provider means by a gigabyte: 2^30 or 10^9 bytes. */
  readonly gigabyteBytes: number
  /** For a gigabyte that leaves the provider; null: that is not estimated. */
  readonly transferOut: number | null
  /** For a month, whatever is stored, e.g. for a disk. */
  readonly fixed: number
  /** By name. */
  readonly classes: ReadonlyMap<string, ClassPrices>
}

/** Bytes that stay for a month, dollars. */
export function storageDollars(bytes: number, price: number, { gigabyteBytes }: Pick<PriceTable, 'gigabyteBytes'>) {
  return (bytes / gigabyteBytes) * price
}

/** Requests, or objects that are priced by the thousand, dollars. */
export function perThousand(count: number, price: number): number {
  return (count / 1000) * price
}

/**
 * What objects are billed as, bytes. Of the sizes only the mean is known: where some are smaller than the minimum and others
 * larger it is less than what is billed, never more.
 */
export function billedBytes(
  { objects, bytes }: { readonly objects: number; readonly bytes: number },
  { minimumBytes, overheadBytes }: Pick<ClassPrices, 'minimumBytes' | 'overheadBytes'>,
): { readonly minimum: number; readonly overhead: number } {
  return { minimum: Math.max(0, objects * minimumBytes - bytes), overhead: objects * overheadBytes }
}
