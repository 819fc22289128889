import type { Catalog } from '../observe/catalog.ts'
import type { RetentionPlans } from '../observe/retention.ts'
import type { MetricWriter } from './snapshot.ts'

/** Whether backups can expire in each repository and watched directory that was seen, and how many somebody wants kept. */
export function writeRetention(metrics: MetricWriter, { repositories, watches }: Catalog, plans: RetentionPlans): void {
  for (const { name: repository } of [...repositories, ...watches]) {
    const plan = plans.get(repository)
    if (plan === undefined) continue
    metrics.set('lifeboat_retention_blocked', { repository }, plan.refusal !== null)
    metrics.set('lifeboat_backups_held', { repository }, plan.held)
  }
}
