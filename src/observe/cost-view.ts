import { type Estimate, estimateCost } from '../domain/cost.ts'
import type { Endless, SteadyBackups } from '../domain/cost-steady.ts'
import { type CostFacts, type CostSettings, steadyOf, usagesOf } from '../domain/cost-usage.ts'
import type { PriceTable } from '../domain/prices.ts'
import type { Catalog, RepositoryState } from './catalog.ts'
import { costFacts } from './cost-facts.ts'

/** A repository whose prices are known. */
export interface PricedRepository {
  readonly name: string
  readonly prices: PriceTable
  /** Asked each time: how many requests were counted changes. */
  readonly settings: () => CostSettings
}

export interface RepositoryCosts {
  readonly repository: string
  readonly facts: CostFacts
  /** A month as it is now. */
  readonly today: Estimate
}

export interface CostViewOptions {
  readonly repositories: readonly PricedRepository[]
  /** WAL comes into the repositories. */
  readonly hasWal: boolean
}

interface Made {
  readonly backups: RepositoryState['backups']
  readonly databases: readonly string[] | undefined
  readonly atMs: number
  readonly costs: RepositoryCosts
}

/** What is not known yet is looked for more often. */
const [everyMs, unknownMs] = [60_000, 5_000]

/**
 * Estimates the costs of one catalog after the other: catalogs come several times a second, and going through ten thousand backups
 * each time would hold up the event loop for nothing. What a new backup costs shows at once, WAL after a minute.
 */
export function createCostView({
  repositories,
  hasWal,
}: CostViewOptions): (catalog: Catalog) => readonly RepositoryCosts[] {
  const made = new Map<string, Made>()
  const steady = new Map<string, SteadyBackups | Endless>()
  return (catalog) => {
    const stale = repositories.filter(({ name }) => !isStillRight(made.get(name), catalog, name))
    for (const { name, prices, settings } of stale) {
      const facts = costFacts(catalog, name, { hasWal })
      const state = catalog.repositories.find((one) => one.name === name)
      if (facts === null || state === undefined) continue
      const asked = settings()
      const found = steady.get(name) ?? steadyOf(asked, prices, true)
      steady.set(name, found)
      const today = estimateCost(usagesOf(facts, asked, prices, found).today, prices)
      const costs = { repository: name, facts, today }
      const { backups } = state
      made.set(name, { backups, databases: catalog.server?.databases, atMs: catalog.at.getTime(), costs })
    }
    const seen = new Set(catalog.repositories.map(({ name }) => name))
    return repositories.flatMap(({ name }) => (seen.has(name) ? (made.get(name)?.costs ?? []) : []))
  }
}

function isStillRight(made: Made | undefined, { at, server, repositories }: Catalog, name: string): boolean {
  return (
    made !== undefined &&
    made.backups === repositories.find((one) => one.name === name)?.backups &&
    made.databases === server?.databases &&
    Math.abs(at.getTime() - made.atMs) < (made.costs.today.isWhole ? everyMs : unknownMs)
  )
}
