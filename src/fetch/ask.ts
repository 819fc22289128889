import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'

/** How repositories are asked. */
export interface Asking {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** One that says nothing for so long, milliseconds, counts as one that failed. */
  readonly patienceMs: number
}

/** What one repository said. */
export type Answer<T> = { readonly repository: Repository } & ({ readonly value: T } | { readonly failure: Failure })

/**
 * Asks one repository; never rejects. A storage that hangs and does not even hear the signal is left behind.
 *
 * @param work calls `alive` as often as it gets something: patience begins anew
 */
export async function ask<T>(
  repository: Repository,
  { clock, signal, patienceMs }: Asking,
  work: (signal: AbortSignal, alive: () => void) => Promise<T>,
): Promise<Answer<T>> {
  const [silent, over] = [new AbortController(), new AbortController()]
  let heard = clock.monotonic()
  const alive = () => {
    heard = clock.monotonic()
  }
  const watch = async () => {
    for (let left = patienceMs; left > 0; left = heard + patienceMs - clock.monotonic())
      await clock.sleep(left, over.signal)
    silent.abort(new LifeboatError('timed-out', `it has not answered for ${patienceMs / 1000} s`))
  }
  watch().catch(() => {})
  const either = AbortSignal.any([signal, silent.signal])
  const stopped = new Promise<never>((_, reject) => {
    either.addEventListener('abort', () => reject(either.reason), { once: true })
  })
  try {
    signal.throwIfAborted()
    return { repository, value: await Promise.race([work(either, alive), stopped]) }
  } catch (error) {
    return { repository, failure: toFailure(error) }
  } finally {
    over.abort()
    stopped.catch(() => {})
  }
}

/** Asks all at once. */
export function askAll<T>(
  repositories: readonly Repository[],
  asking: Asking,
  work: (repository: Repository, signal: AbortSignal) => Promise<T>,
): readonly Promise<Answer<T>>[] {
  return repositories.map((repository) => ask(repository, asking, (signal) => work(repository, signal)))
}

/** What all of them said: fails, with what each says, where one could not be asked. */
export async function unanimous<T>(
  wanted: string,
  answers: readonly Promise<Answer<T>>[],
): Promise<readonly (readonly [repository: Repository, value: T])[]> {
  const all = await Promise.all(answers)
  assertNone(
    wanted,
    all.filter((answer) => 'failure' in answer),
  )
  return all.flatMap((answer) => ('value' in answer ? [[answer.repository, answer.value] as const] : []))
}

/** Throws one error for what has failed in each repository. */
export function assertNone(
  wanted: string,
  failures: readonly { readonly repository: Repository; readonly failure: Failure }[],
): void {
  const [first] = failures
  if (first === undefined) return
  const reasons = failures.map(({ repository, failure }) => `${repository.name}: ${failure.message}`)
  throw new LifeboatError(first.failure.code, `cannot get ${wanted}: ${reasons.join('; ')}`, {
    ...(first.failure.hint === undefined ? {} : { hint: first.failure.hint }),
  })
}
