import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { isSilence, whichAnswer } from '../fetch/answering.ts'
import type { BackupWriter, Repository } from '../repository/repository.ts'

/** How it went in one repository; null: it is there. */
export interface Filled {
  readonly repository: Repository
  readonly error: unknown
}

/**
 * The repositories that a run fills: all at once, so that none waits for another. One that does not answer is left alone for
 * the rest of the run when another one got what was to be stored; the job `copy` brings it there later.
 */
export class Destinations {
  readonly #all: readonly Repository[]
  readonly #silent: Map<Repository, unknown>

  /** What is known to be silent is not waited for even once. */
  static async of(
    repositories: readonly Repository[],
    {
      config,
      clock,
      signal,
    }: { readonly config: ValidatedConfig; readonly clock: Clock; readonly signal: AbortSignal },
  ): Promise<Destinations> {
    const patienceMs = 1000 * config.observe.timeoutSeconds
    return new Destinations(repositories, (await whichAnswer(repositories, { clock, signal, patienceMs })).silent)
  }

  private constructor(repositories: readonly Repository[], silent: readonly Filled[]) {
    this.#all = repositories
    this.#silent = new Map(silent.map(({ repository, error }) => [repository, error]))
  }

  /** Those that have answered so far. */
  get answering(): readonly Repository[] {
    return this.#all.filter((one) => !this.#silent.has(one))
  }

  /**
   * @param work is told what need not be tried again, since another repository has it, and this one does not answer
   * @param oneFirst the others copy what the first has got
   */
  async fill(
    work: (repository: Repository, unless: (error: unknown) => boolean) => Promise<void>,
    { oneFirst }: { readonly oneFirst: boolean },
  ): Promise<readonly Filled[]> {
    let stored = 0
    const fill = async (repository: Repository): Promise<Filled> => {
      if (this.#silent.has(repository)) return { repository, error: this.#silent.get(repository) }
      try {
        await work(repository, (error) => stored > 0 && isSilence(error))
        stored += 1
        return { repository, error: null }
      } catch (error) {
        return { repository, error }
      }
    }
    const filled: Filled[] = []
    const left = [...this.#all]
    for (let next = left[0]; oneFirst && stored === 0 && next !== undefined; next = left[0]) {
      left.shift()
      filled.push(await fill(next))
    }
    filled.push(...(await Promise.all(left.map(fill))))
    for (const { repository, error } of filled) if (stored > 0 && isSilence(error)) this.#silent.set(repository, error)
    return filled
  }
}

/** Removes what was written of a backup that failed. Where nobody answers that is not waited for: the next clean-up does it. */
export async function letGo(writer: BackupWriter, error: unknown): Promise<void> {
  const removed = writer.abandon()
  if (isSilence(error)) removed.catch(() => {})
  else await removed
}
