import type { Repository } from '../repository/repository.ts'
import type { StoredWalObject } from '../repository/wal.ts'
import { type Asking, ask, promptOnes } from './ask.ts'

/** A segment that can be fetched, and who has it, nearest first. */
export interface Upcoming {
  readonly name: string
  readonly sources: readonly { readonly repository: Repository; readonly object: StoredWalObject }[]
}

/** A repository that has failed is not asked (first) again for so long. */
export const sulkMs = 60_000

/** Tells which whole segments come next on a timeline. What is strange is left to `fetchWal`, which judges. */
export class UpcomingSegments {
  readonly #repositories: readonly Repository[]
  readonly #systemIdentifier: string
  readonly #hashes: readonly string[]
  readonly #asking: Asking
  readonly #failedAt = new Map<Repository, number>()

  constructor(options: {
    readonly repositories: readonly Repository[]
    readonly systemIdentifier: string
    readonly hashes: readonly string[]
    readonly asking: Asking
  }) {
    this.#repositories = options.repositories
    this.#systemIdentifier = options.systemIdentifier
    this.#hashes = options.hashes
    this.#asking = options.asking
  }

  /** At most so many, from this segment on, in order; those that no repository has are left out. */
  async from(segment: string, count: number): Promise<readonly Upcoming[]> {
    const found = new Map<string, StoredSource[]>()
    const answers = this.#healthy().map((one) => this.#list(one, segment, count))
    for (const pending of answers)
      void pending.then((answer) => {
        if ('failure' in answer) this.#failedAt.set(answer.repository, this.#asking.clock.monotonic())
      })
    for (const answer of await promptOnes(answers, this.#asking)) {
      if ('failure' in answer) continue
      for (const object of answer.value) {
        const sources = found.get(object.name) ?? []
        found.set(object.name, sources)
        sources.push({ repository: answer.repository, object })
      }
    }
    return [...found]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, count)
      .map(([name, sources]) => ({ name, sources: this.#meant(sources) }))
      .filter(({ sources }) => sources.length > 0)
  }

  /** Those of the one content that is meant; none where nobody has said which. */
  #meant(sources: readonly StoredSource[]): readonly StoredSource[] {
    const contents = [...new Set(sources.map(({ object }) => object.hash))]
    const [meant, ...others] =
      contents.length === 1 ? contents : contents.filter((one) => this.#hashes.includes(one ?? ''))
    return meant === undefined || others.length > 0 ? [] : sources.filter(({ object }) => object.hash === meant)
  }

  #healthy(): readonly Repository[] {
    const now = this.#asking.clock.monotonic()
    return this.#repositories.filter((one) => now - (this.#failedAt.get(one) ?? Number.NEGATIVE_INFINITY) > sulkMs)
  }

  #list(repository: Repository, segment: string, count: number) {
    const timeline = Number.parseInt(segment.slice(0, 8), 16)
    return ask(repository, this.#asking, async (signal) => {
      const objects: StoredWalObject[] = []
      const names = new Set<string>()
      for await (const object of repository.wal.list(this.#systemIdentifier, timeline, { from: segment, signal })) {
        const { kind, name } = object
        if (kind !== 'segment') continue
        if (names.size === count && !names.has(name)) break
        names.add(name)
        objects.push(object)
      }
      return objects
    })
  }
}

type StoredSource = Upcoming['sources'][number]
