import type { Clock } from './clock.ts'
import { costSettingsOf } from './config/cost-settings.ts'
import type { ValidatedConfig } from './config/validated.ts'
import { countedPerMonth } from './domain/cost-work.ts'
import type { Costs } from './metrics/costs.ts'
import { createCostView } from './observe/cost-view.ts'

/** What was sent to the bucket of a repository since the process began. */
interface SentRequests {
  readonly repository: string
  readonly requests: readonly { readonly operation: string; readonly requests: number }[]
}

/** What the repositories cost whose prices the configuration knows, and what they may cost. */
export function costsOf(
  config: ValidatedConfig,
  { clock, requests }: { readonly clock: Clock; readonly requests: () => readonly SentRequests[] },
): Costs {
  const begun = clock.monotonic()
  const counted = (name: string) => {
    const found = requests().find(({ repository }) => repository === name)
    return found === undefined ? null : countedPerMonth(found.requests, (clock.monotonic() - begun) / 1000)
  }
  const priced = config.repositories.flatMap((one) => {
    const { name, prices } = one
    return prices === null ? [] : [{ name, prices, settings: () => costSettingsOf(config, one, counted(name)) }]
  })
  const budgets = config.repositories.flatMap(({ name, monthlyBudget }) =>
    monthlyBudget === null ? [] : [[name, monthlyBudget] as const],
  )
  const of = createCostView({ repositories: priced, hasWal: config.wal.archive !== null })
  return { of, budgets: new Map(budgets) }
}
