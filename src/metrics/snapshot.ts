import { Counter, Gauge, Registry } from 'prom-client'
import { type MetricDefinition, type MetricLabels, type MetricName, metricDefinitions } from './names.ts'

/** Takes the values of one snapshot. */
export interface MetricWriter {
  /** Sets one series. A value of null or NaN is not known and makes no series: unknown is not zero. */
  set<N extends MetricName>(name: N, labels: MetricLabels<N>, value: number | Date | boolean | null): void
}

/**
 * An empty set of all metrics for one snapshot. Each snapshot gets its own, so that series of things that are gone end
 * by themselves, and counters can be set to the total that the history knows.
 */
export function createSnapshot(cluster: string): MetricWriter & { text(): Promise<string> } {
  const registry = new Registry()
  const metrics = new Map<MetricName, Gauge | Counter>()
  const definitions: Readonly<Record<MetricName, MetricDefinition>> = metricDefinitions
  for (const name of Object.keys(metricDefinitions) as MetricName[]) {
    const { type, help, labels, cluster: ofCluster } = definitions[name]
    const labelNames = ofCluster === false ? [...labels] : ['cluster_name', ...labels]
    const Metric = type === 'counter' ? Counter : Gauge
    metrics.set(name, new Metric({ name, help, labelNames, registers: [registry] }))
  }

  return {
    set(name, labels, value) {
      const number = value instanceof Date ? value.getTime() / 1000 : Number(value ?? Number.NaN)
      if (Number.isNaN(number)) return
      const all = definitions[name].cluster === false ? { ...labels } : { cluster_name: cluster, ...labels }
      const metric = metrics.get(name)
      if (metric instanceof Gauge) metric.set(all, number)
      // A counter refuses to go down by throwing, and that would cost the whole scrape.
      else metric?.inc(all, Math.max(0, number))
    },
    text: () => registry.metrics(),
  }
}
