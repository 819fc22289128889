import { collectDefaultMetrics, Registry } from 'prom-client'

// Deprecated names that break the naming rules (`_total` on gauges), and the fine-grained twins of them.
const unwanted = ['handles', 'requests', 'resources'].flatMap((kind) => [
  `nodejs_active_${kind}`,
  `nodejs_active_${kind}_total`,
])

/** The usual metrics of the process itself (`process_*`, `nodejs_*`), in a registry of their own. */
export function createProcessMetrics(): { text(): Promise<string> } {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of unwanted) registry.removeSingleMetric(name)
  return { text: () => registry.metrics() }
}
