import { type SegmentRange, SegmentSet } from '../domain/segment-set.ts'

/** Ranges of segment numbers as they are kept in the state file: `0-255,300,302-310`. */
export function rangesText(ranges: Iterable<SegmentRange>): string {
  return [...ranges].map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}

/** What was kept. What is no range is left out: it is then looked for, or read, once more. */
export function parseRanges(text: string): SegmentSet {
  const set = new SegmentSet()
  for (const part of text.split(',')) {
    const [, low, high = low] = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(part) ?? []
    if (Number(high) >= Number(low)) set.addRange(Number(low), Number(high))
  }
  return set
}
