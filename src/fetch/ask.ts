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

/** So long those that are nearer may let the first answer wait, milliseconds. */
const graceMs = 1000

/** The answers in the order of what was asked; but those that are long in coming, after those that are there. */
export async function* nearestFirst<T>(
  answers: readonly Promise<Answer<T>>[],
  { clock }: Pick<Asking, 'clock'>,
): AsyncGenerator<Answer<T>> {
  const over = new AbortController()
  const open = answers.map((pending) => ({ pending, answer: null as Answer<T> | null }))
  for (const one of open)
    void one.pending.then((answer) => {
      one.answer = answer
    })
  let patient: Promise<unknown> | null = null
  try {
    while (open.length > 0) {
      await Promise.race(open.map(({ pending }) => pending))
      patient ??= clock.sleep(graceMs, over.signal).catch(() => {})
      await Promise.race([open[0]?.pending, patient])
      const [next] = open.splice(
        Math.max(
          0,
          open.findIndex(({ answer }) => answer !== null),
        ),
        1,
      )
      if (next !== undefined) yield await next.pending
    }
  } finally {
    over.abort()
  }
}

/** The answers that are there by the time that the first one may be let wait; in the order of what was asked. */
export async function promptOnes<T>(
  answers: readonly Promise<Answer<T>>[],
  { clock }: Pick<Asking, 'clock'>,
): Promise<readonly Answer<T>[]> {
  if (answers.length === 0) return []
  const over = new AbortController()
  const found: (Answer<T> | null)[] = answers.map(() => null)
  const all = Promise.all(
    answers.map(async (pending, index) => {
      found[index] = await pending
    }),
  )
  await Promise.race(answers)
  await Promise.race([all, clock.sleep(graceMs, over.signal).catch(() => {})])
  over.abort()
  return found.filter((answer) => answer !== null)
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

/** Throws one error for what has failed in each repository; `details.codes` has the code of each. */
export function assertNone(
  wanted: string,
  failures: readonly { readonly repository: Repository; readonly failure: Failure }[],
): void {
  const [first] = failures
  if (first === undefined) return
  const reasons = failures.map(({ repository, failure }) => `${repository.name}: ${failure.message}`)
  throw new LifeboatError(first.failure.code, `cannot get ${wanted}: ${reasons.join('; ')}`, {
    ...(first.failure.hint === undefined ? {} : { hint: first.failure.hint }),
    details: { codes: failures.map(({ failure }) => failure.code) },
  })
}
