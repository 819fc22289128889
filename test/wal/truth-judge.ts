import { targetTime } from '../../src/domain/recovery-plan.ts'
import type { Random } from '../chaos/random.ts'
import type { Confirmed, RestorePoint } from './truth-load.ts'

/** What was known at the instant of a kill: Unix time, ms. */
export interface Promised {
  /** The latest recovery point that was ever told. */
  readonly point: number
  /** The backup was there. */
  readonly begun: number
  readonly points: readonly RestorePoint[]
}

/** What is restored, and what must be in it. */
export interface Asked {
  /** For `lifeboat restore`; null: by hand, to the end. */
  readonly args: readonly string[] | null
  /** Everything must be there that was confirmed before: Unix time, ms. */
  readonly until: number
  /** Nothing may be there that was committed later, in microseconds, or that was asked for later, in milliseconds. */
  readonly committedBy: bigint | null
  readonly askedForBy: number | null
}

/** Several segments are stored at once: of those that were on their way a later one may be there without an earlier one. */
const toTheEnd = ['--latest', '--missing-is-end']

/** The ways to ask, of which each takes its turn. */
export const ways: readonly ((promised: Promised, random: Random) => Asked)[] = [
  ({ point }) => ({ args: toTheEnd, until: point, committedBy: null, askedForBy: null }),
  ({ point }) => at(BigInt(point) * 1000n),
  ({ point, points }) => {
    const last = points.findLast(({ made }) => made < point)
    if (last === undefined) return { args: toTheEnd, until: point, committedBy: null, askedForBy: null }
    return { args: ['--name', last.name], until: last.begun, committedBy: null, askedForBy: last.made }
  },
  ({ point, begun }, random) => at(BigInt(Math.floor(random.between(begun, Math.max(begun, point)) * 1000))),
  ({ point }) => ({ args: null, until: point, committedBy: null, askedForBy: null }),
]

function at(micros: bigint): Asked {
  const until = Number(micros / 1000n)
  const text = targetTime({ at: new Date(until), micros: Number(micros % 1000n) })
  return { args: ['--at', text], until, committedBy: micros, askedForBy: null }
}

/**
 * Holds what was restored against what was asked. A commit gets its moment a little before its place in the WAL: of those that
 * were under way at the moment itself either may be.
 *
 * @param of `there`: what was restored; `times`: when what the server has was committed, in microseconds; `lost`: with a crash
 */
export function judge(
  { until, committedBy, askedForBy }: Asked,
  of: {
    readonly there: ReadonlySet<number>
    readonly confirmed: readonly Confirmed[]
    readonly times: ReadonlyMap<number, bigint>
    readonly lost: ReadonlySet<number>
  },
): { readonly due: number; readonly absent: readonly Confirmed[]; readonly surplus: readonly number[] } {
  const { there, confirmed, times, lost } = of
  const due = confirmed.filter(({ id, at }) => at < until && !lost.has(id))
  const late = new Set(confirmed.filter(({ begun }) => askedForBy !== null && begun > askedForBy).map(({ id }) => id))
  const isSurplus = (id: number) => {
    const committed = times.get(id)
    // Nor anything that never was.
    return committed === undefined || late.has(id) || (committedBy !== null && committed > committedBy)
  }
  return {
    due: due.length,
    absent: due.filter(({ id }) => !there.has(id)),
    surplus: [...there].filter(isSurplus),
  }
}
