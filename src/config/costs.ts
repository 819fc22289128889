import type { PriceTable } from '../domain/prices.ts'
import { formatKey, type Problems } from './problems.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { parseDuration, parseSize } from './units.ts'

type RawTable = RawConfig['costs']['prices'][number]

export function priceTableOf({ name, asOf, source, gigabyte, transferOut, fixed, classes }: RawTable): PriceTable {
  const prices = classes.map((one) => ({
    storageClass: one.class,
    storage: one.storage,
    put: one.put ?? null,
    get: one.get ?? null,
    retrieval: one.retrieval ?? null,
    transition: one.transition ?? null,
    monitoring: one.monitoring,
    minimumSeconds: parseDuration(one.minimumDuration) / 1000,
    minimumBytes: parseSize(String(one.minimumSize)),
    overheadBytes: parseSize(String(one.overhead)),
  }))
  return {
    ...{ name, asOf, source, fixed, transferOut: transferOut ?? null },
    gigabyteBytes: gigabyte === 'GiB' ? 2 ** 30 : 10 ** 9,
    classes: new Map(prices.map((one) => [one.storageClass, one])),
  }
}

/** Finds tables and classes that stand there twice, repositories that name a table that there is not, and useless budgets. */
export function checkCosts(tree: unknown, problems: Problems): void {
  const costs = isRecord(tree) && isRecord(tree.costs) ? tree.costs : {}
  const tables = new Map<unknown, number>()
  for (const [index, table] of listOf(costs.prices).entries()) {
    if (!isRecord(table)) continue
    const first = tables.get(table.name)
    if (first !== undefined && table.name !== undefined)
      problems.add(['costs', 'prices', index, 'name'], `is the name of costs.prices[${first}] too`)
    else tables.set(table.name, index)
    const names = new Map<unknown, number>()
    for (const [place, one] of listOf(table.classes).entries()) {
      if (!isRecord(one) || one.class === undefined) continue
      const path = ['costs', 'prices', index, 'classes', place, 'class']
      const other = names.get(one.class)
      if (other === undefined) names.set(one.class, place)
      else problems.add(path, `is the class of ${formatKey([...path.slice(0, 4), other])} too`, 'Keep one of them.')
    }
  }
  const known = [...tables.keys()].filter((name) => typeof name === 'string')
  for (const [index, repository] of listOf(isRecord(tree) ? tree.repositories : []).entries()) {
    if (!isRecord(repository)) continue
    const { prices, monthlyBudget } = repository
    if (typeof prices === 'string' && !known.includes(prices)) {
      const hint = known.length === 0 ? 'Write one: docs/cost.md has an example.' : `There are: ${known.join(', ')}.`
      problems.add(['repositories', index, 'prices'], 'is not the name of a table in costs.prices', hint)
    }
    if (monthlyBudget !== undefined && prices === undefined) {
      const hint = 'Set prices, or remove the key.'
      problems.add(['repositories', index, 'monthlyBudget'], 'has no effect without prices', hint)
    }
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
