import type { BandwidthRule } from '../domain/bandwidth.ts'
import type { Problems } from './problems.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { parseSize } from './units.ts'

type RawRule = RawConfig['repositories'][number]['bandwidth'][number]

/** The rules of a repository, from its sound section. */
export function bandwidthOf(rules: readonly RawRule[]): BandwidthRule[] {
  return rules.map(({ limit, direction, from, to, timezone }) => ({
    direction,
    bytesPerSecond: parseSize(String(limit)),
    hours: from === undefined || to === undefined ? null : { from: minutesOf(from), to: minutesOf(to), timezone },
  }))
}

/** Minutes after midnight of a time such as 08:30. */
function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number)
  return hours * 60 + minutes
}

/** Finds halves of a span of time, and spans that are none. */
export function checkBandwidth(tree: unknown, problems: Problems): void {
  const list: unknown = isRecord(tree) ? tree.repositories : undefined
  for (const [index, repository] of (Array.isArray(list) ? list : []).entries()) {
    const rules: unknown = isRecord(repository) ? repository.bandwidth : undefined
    for (const [number, rule] of (Array.isArray(rules) ? rules : []).entries()) {
      if (!isRecord(rule)) continue
      const { from, to } = rule
      const at = (key: string) => ['repositories', index, 'bandwidth', number, key]
      if ((from === undefined) !== (to === undefined)) {
        const [set, other] = from === undefined ? ['to', 'from'] : ['from', 'to']
        problems.add(at(set), `is set, and ${other} is not`, 'Set both, or none for a limit at all times.')
      } else if (from !== undefined && from === to) {
        problems.add(at('to'), 'is the same time as from', 'Leave out both for a limit at all times.')
      }
    }
  }
}
