import type { Catalog } from '../observe/catalog.ts'
import type { RepositoryCosts } from '../observe/cost-view.ts'
import type { MetricWriter } from './snapshot.ts'

export interface Costs {
  readonly of: (catalog: Catalog) => readonly Pick<RepositoryCosts, 'repository' | 'today'>[]
  /** Dollars a month that a repository may cost, by its name. */
  readonly budgets: ReadonlyMap<string, number>
}

/** What each repository costs, and may cost; a part of a cost is none, and has no series. */
export function writeCosts(metrics: MetricWriter, catalog: Catalog, { of, budgets }: Costs): void {
  for (const { repository, today } of of(catalog))
    metrics.set('lifeboat_repository_monthly_cost_dollars', { repository }, today.isWhole ? today.dollars : null)
  for (const [repository, dollars] of budgets)
    metrics.set('lifeboat_policy_monthly_cost_dollars', { repository }, dollars)
}
