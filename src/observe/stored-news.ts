import type { WalStore } from '../repository/wal.ts'
import type { StoredHistories } from './stored-histories.ts'
import { listShelves } from './stored-listing.ts'
import { lookAtBeginning, lookAtEnd, lookAtGap, lookAtTimeline } from './stored-look.ts'
import type { StoredShelves } from './stored-shelves.ts'
import { byChange, Turns } from './stored-turns.ts'

/** What is known of one system. */
export interface KnownSystem {
  readonly shelves: StoredShelves
  readonly histories: StoredHistories
  /** By timeline, behind which segment gaps are looked at next. */
  readonly gaps: Map<number, number>
}

interface KnownTimeline {
  readonly known: KnownSystem
  readonly timeline: number
}

interface StoredNewsOptions {
  readonly wal: Pick<WalStore, 'systems' | 'folder' | 'list' | 'ofSegment'>
  /** Each listing costs something: a look asks for the newest, and for one thing more in turn. */
  readonly isCostly: boolean
  readonly systems: ReadonlyMap<string, KnownSystem>
  /** Null where its segment size is not known. */
  readonly system: (systemIdentifier: string, signal: AbortSignal) => Promise<KnownSystem | null>
  /** Gives what fails when the repository is not there. */
  readonly confirm: (signal: AbortSignal) => () => Promise<void>
}

/** Looks for what is new in the stored WAL: systems, timelines, histories, and segments where there may be any. */
export class StoredNews {
  readonly #options: StoredNewsOptions
  readonly #turns = new Turns()
  /** Whether the folders of all systems were looked at since the beginning. */
  #isBegun = false

  constructor(options: StoredNewsOptions) {
    this.#options = options
  }

  /** Everything was just listed, or nothing is known any more. */
  begin(): void {
    this.#isBegun = false
  }

  /** `isListed`: everything was listed once, so that segments need only be looked for where there may be new ones. */
  async look(isListed: boolean, signal: AbortSignal): Promise<void> {
    if (this.#options.isCostly && this.#isBegun) return this.#lookForLess(signal)
    const places = await this.#lookForSystems({ isListed, signal })
    if (!isListed) return
    this.#isBegun = true
    if (this.#options.isCostly) return this.#lookForLess(signal)
    for (const { known, timeline } of this.#turns.due(places)) {
      const place = this.#place(known, timeline, signal)
      known.gaps.set(timeline, await lookAtTimeline(place, known.gaps.get(timeline) ?? 0, signal))
    }
  }

  /** Looks at the end of the timeline that changed last, and at one thing more. */
  async #lookForLess(signal: AbortSignal): Promise<void> {
    const systems = [...this.#options.systems.values()]
    const places = byChange(
      systems.flatMap((known) => known.shelves.timelines().map((timeline) => ({ known, timeline }))),
    )
    const others = () => this.#lookForSystems({ isListed: true, but: systems, signal })
    const folders = systems.map((known) => () => this.#lookAtFolder(known, true, signal))
    const [newest] = places
    if (newest === undefined) return void (await this.#turns.next<() => Promise<unknown>>(others, folders)())
    await lookAtEnd(this.#place(newest.known, newest.timeline, signal), signal)
    const pieces = places.flatMap(({ known, timeline }) => {
      const place = this.#place(known, timeline, signal)
      return [
        () => lookAtBeginning(place, signal),
        async () => void known.gaps.set(timeline, await lookAtGap(place, known.gaps.get(timeline) ?? 0, signal)),
        () => lookAtEnd(place, signal),
      ]
    })
    // A new timeline of the newest system is what may come any time.
    const folder = () => this.#lookAtFolder(newest.known, true, signal)
    await this.#turns.next<() => Promise<unknown>>(folder, [others, ...pieces, ...folders])()
  }

  /** Looks at what systems there are, and at the folder of each but these. Gives their timelines. */
  async #lookForSystems(options: {
    readonly isListed: boolean
    readonly but?: readonly KnownSystem[]
    readonly signal: AbortSignal
  }): Promise<readonly KnownTimeline[]> {
    const { isListed, but = [], signal } = options
    const ids = new Set(this.#options.systems.keys())
    for await (const id of this.#options.wal.systems({ signal })) ids.add(id)
    const places: KnownTimeline[] = []
    for (const id of ids) {
      const known = await this.#options.system(id, signal)
      if (known === null || but.includes(known)) continue
      places.push(...(await this.#lookAtFolder(known, isListed, signal)))
    }
    return places
  }

  /** Looks at the histories of a system, and what timelines it has. Gives those that were there before. */
  async #lookAtFolder(known: KnownSystem, isListed: boolean, signal: AbortSignal): Promise<readonly KnownTimeline[]> {
    const { shelves, histories } = known
    const { timelines, plain } = await this.#options.wal.folder(shelves.systemIdentifier, { signal })
    await histories.look(shelves, plain, this.#options.confirm(signal), signal)
    if (!isListed) return []
    const [stored, before] = [new Set(timelines), new Set(shelves.timelines())]
    for (const timeline of new Set([...timelines, ...before])) {
      if (stored.has(timeline) && before.has(timeline)) continue
      // New, or gone.
      await listShelves(this.#place(known, timeline, signal), { from: 0, signal })
    }
    return timelines.filter((timeline) => before.has(timeline)).map((timeline) => ({ known, timeline }))
  }

  #place({ shelves }: KnownSystem, timeline: number, signal: AbortSignal) {
    const { wal, confirm } = this.#options
    return { wal, system: shelves, timeline, confirm: confirm(signal) }
  }
}
