import { join } from 'node:path'
import { firstLsn, parseWalName, timelineDigits } from '../domain/wal.ts'
import { longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import { readHead } from './wal-files.ts'
import { type PlaceRuns, placesPerLog } from './wal-scan.ts'

/** A whole segment whose header agrees with its name and length: from such a one is known what the archive is of. */
export interface KnownSegment {
  readonly name: string
  readonly timeline: number
  /** Its first place in the WAL. */
  readonly address: bigint
  readonly systemIdentifier: string
  readonly segmentSize: number
  /** Milliseconds since 1970. */
  readonly modified: number
}

/** Of each timeline so many ends of runs are asked, half of them the first: an archive that is all gaps has many. */
const mostEnds = 64
/** A segment that is being written, or is none, lets the ones before it speak. */
const stepsBack = 3

/** Reads the header of a segment; null where the file is not there, not whole, or not what its name says. Fails when it cannot be read. */
export async function readSegment(directory: string, name: string): Promise<KnownSegment | null> {
  const file = await readHead(join(directory, name), longHeaderSize)
  const header = file === null ? null : readWalPageHeader(file.head)
  if (file === null || header === null) return null
  const { systemIdentifier, segmentSize, address } = header
  const said = parseWalName(name, segmentSize)
  if (file.bytes !== segmentSize || said?.kind !== 'segment') return null
  if (firstLsn(said.segment, segmentSize) !== address) return null
  return { name, timeline: said.timeline, address, systemIdentifier, segmentSize, modified: file.modified }
}

/**
 * The newest segment of the cluster that archives now: the one that wrote last, of those that have left segments here (an
 * upgrade makes another cluster, which may begin at lower numbers). Within a cluster it is the place that counts.
 */
export function newestOf(segments: readonly KnownSegment[]): KnownSegment | null {
  const writer = segments.reduce<KnownSegment | null>(
    (found, one) => (found === null || one.modified > found.modified ? one : found),
    null,
  )
  return segments.reduce<KnownSegment | null>((found, one) => {
    if (one.systemIdentifier !== writer?.systemIdentifier) return found
    return found === null || isLater(one, found) ? one : found
  }, null)
}

/** Reads a segment at the end of each stretch without a gap. Fails when none of them can be read. */
export async function readEnds(
  directory: string,
  segments: ReadonlyMap<number, PlaceRuns>,
  signal: AbortSignal,
): Promise<readonly KnownSegment[]> {
  const found: KnownSegment[] = []
  let failure: unknown = null
  for (const [timeline, runs] of segments) {
    for (const { first, last } of endsOf(runs)) {
      for (let place = last; place >= Math.max(first, last - stepsBack); place -= 1) {
        signal.throwIfAborted()
        try {
          const segment = await readSegment(directory, placeName(timeline, place))
          if (segment === null) continue
          found.push(segment)
          break
        } catch (error) {
          failure = error
        }
      }
    }
  }
  if (found.length === 0 && failure !== null) throw failure
  return found
}

function isLater(one: KnownSegment, other: KnownSegment): boolean {
  return one.timeline === other.timeline ? one.address > other.address : one.timeline > other.timeline
}

/** The last runs of all stretches: where one log follows another, the second begins with its first segment. */
function endsOf(runs: PlaceRuns): readonly { readonly first: number; readonly last: number }[] {
  const ends: { first: number; last: number }[] = []
  for (let at = 0; at < runs.length; at += 2) {
    const [first, last, next] = [runs[at] ?? 0, runs[at + 1] ?? 0, runs[at + 2]]
    const nextLog = (Math.floor(last / placesPerLog) + 1) * placesPerLog
    if (next !== nextLog) ends.push({ first, last })
  }
  return ends.length <= mostEnds ? ends : [...ends.slice(0, mostEnds / 2), ...ends.slice(-mostEnds / 2)]
}

function placeName(timeline: number, place: number): string {
  const digits = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
  return `${timelineDigits(timeline)}${digits(Math.floor(place / placesPerLog))}${digits(place % placesPerLog)}`
}
