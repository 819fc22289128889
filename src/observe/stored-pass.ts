import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import type { WalStore } from '../repository/wal.ts'
import { FlatWal } from './flat-wal.ts'
import { listShelves } from './stored-listing.ts'
import type { StoredShelves } from './stored-shelves.ts'

/** Shelves that are listed in one go: what is noted meanwhile is kept for so long. */
const shelvesAtOnce = 64

interface Pass {
  readonly wal: Pick<WalStore, 'systems' | 'timelines' | 'list' | 'all'>
  /** Each listing costs something, and its length nothing: all is had in one. */
  readonly inOneGo: boolean
  readonly clock: Clock
  /** Null while its segment size is not known. */
  readonly system: (systemIdentifier: string, signal: AbortSignal) => Promise<StoredShelves | null>
  readonly confirm: () => Promise<void>
  /** How long to rest after a piece of work, for each millisecond that it took: others want the storage, too. */
  readonly rest: number
  readonly signal: AbortSignal
}

/** Lists everything that is stored, piece by piece, beside the looks that are for what is new. */
export async function passOverAll({ inOneGo, ...pass }: Pass): Promise<void> {
  if (!inOneGo) return passOverPieces(pass, shelvesAtOnce)
  const flat = new FlatWal(pass.wal, pass.signal)
  try {
    await passOverPieces({ ...pass, wal: flat, rest: 0 }, Number.POSITIVE_INFINITY)
  } finally {
    await flat.close()
  }
}

type PiecesPass = Omit<Pass, 'inOneGo' | 'wal'> & { readonly wal: Omit<Pass['wal'], 'all'> }

async function passOverPieces(pass: PiecesPass, most: number): Promise<void> {
  const { wal, clock, system, confirm, rest, signal } = pass
  for await (const systemIdentifier of wal.systems({ signal })) {
    const found = await system(systemIdentifier, signal)
    if (found === null) continue
    for await (const timeline of wal.timelines(systemIdentifier, { signal })) {
      let next: number | null = 0
      while (next !== null) {
        const begun = clock.monotonic()
        next = await listShelves({ wal, system: found, timeline, confirm }, { from: next, most, signal })
        const pause = rest * (clock.monotonic() - begun)
        if (next === null || pause === 0) await nextTurn()
        else await clock.sleep(pause, signal)
      }
    }
  }
}
