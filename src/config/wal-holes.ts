import type { NamedHole } from '../domain/holes.ts'
import { parseMoment } from './moment.ts'
import type { Problems } from './problems.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'

export function holeOf({ first, last = first, reason, until }: RawConfig['wal']['holes'][number]): NamedHole {
  return { first, last, reason, until: parseMoment(until) }
}

/** What no key of a hole shows alone. */
export function checkHoles(tree: unknown, problems: Problems): void {
  const wal = isRecord(tree) && isRecord(tree.wal) ? tree.wal : {}
  for (const [index, hole] of (Array.isArray(wal.holes) ? wal.holes : []).entries()) {
    if (!isRecord(hole) || typeof hole.first !== 'string' || typeof hole.last !== 'string') continue
    const { first, last } = hole
    const at = ['wal', 'holes', index, 'last'] as const
    if (last.slice(0, 8) !== first.slice(0, 8))
      problems.add(at, `is of another timeline than ${first}`, 'A hole is of one timeline: list one for each.')
    else if (last < first) problems.add(at, `comes before ${first}`, 'Exchange first and last.')
  }
}
