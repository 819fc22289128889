import type { ClassPrices, PriceTable } from '../../src/domain/prices.ts'

/** A class whose prices are not known but for that of storage, unless said otherwise. */
export function classPrices(
  ...all: readonly (Partial<ClassPrices> & Pick<ClassPrices, 'storageClass' | 'storage'>)[]
): ReadonlyMap<string, ClassPrices> {
  const none = { put: null, get: null, retrieval: null, transition: null }
  const nothing = { monitoring: 0, minimumSeconds: 0, minimumBytes: 0, overheadBytes: 0 }
  return new Map(all.map((one) => [one.storageClass, { ...none, ...nothing, ...one }]))
}

const cold = { minimumBytes: 128 * 1024 }

/** Figures for tests, round enough to work with by hand. */
export function priceTable(fields: Partial<PriceTable> = {}): PriceTable {
  return {
    ...{ name: 'test', asOf: '2026-03-01', source: 'made up', gigabyteBytes: 2 ** 30, transferOut: null, fixed: 0 },
    classes: classPrices(
      { storageClass: 'STANDARD', storage: 0.023, put: 0.005, get: 0.0004, retrieval: 0, transition: 0 },
      {
        ...{ storageClass: 'STANDARD_IA', storage: 0.0125, put: 0.01, get: 0.001, retrieval: 0.01, transition: 0.01 },
        ...{ ...cold, minimumSeconds: 30 * 86_400 },
      },
      {
        ...{ storageClass: 'GLACIER_IR', storage: 0.004, put: 0.02, get: 0.01, retrieval: 0.03, transition: 0.02 },
        ...{ ...cold, minimumSeconds: 90 * 86_400 },
      },
    ),
    ...fields,
  }
}
