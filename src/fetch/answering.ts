import { LifeboatError } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'
import { type Asking, ask } from './ask.ts'

/** Those that answer, in their order, and those that say nothing. */
export interface Answering {
  readonly answering: readonly Repository[]
  readonly silent: readonly Silent[]
}

/** A repository that says nothing, and the error that tells so. */
export interface Silent {
  readonly repository: Repository
  readonly error: LifeboatError
}

/** As `observe.timeout` has it. */
export const usualPatienceMs = 20_000

/**
 * Looks at all repositories at once, so that what is done with several waits for none that hangs. What else is wrong with one
 * is left to what is done with it.
 *
 * @throws LifeboatError `storage-unreachable` when none of them answers; the signal's reason
 */
export async function whichAnswer(
  repositories: readonly Repository[],
  { patienceMs = usualPatienceMs, ...rest }: Omit<Asking, 'patienceMs'> & Partial<Asking>,
): Promise<Answering> {
  const told = await whoAnswers(repositories, { ...rest, patienceMs })
  const [first] = told.silent
  if (first === undefined || told.answering.length > 0) return told
  const words = told.silent.map(({ error }) => error.message).join('; ')
  throw new LifeboatError(first.error.code, words, first.error.hint === undefined ? {} : { hint: first.error.hint })
}

/**
 * Like `whichAnswer`, for who has something to tell or to do when none of them answers.
 *
 * @throws the signal's reason
 */
export async function whoAnswers(repositories: readonly Repository[], asking: Asking): Promise<Answering> {
  const answers = await Promise.all(repositories.map((one) => ask(one, asking, (signal) => one.seeMarker({ signal }))))
  asking.signal.throwIfAborted()
  const silent = answers.flatMap((answer): readonly Silent[] => {
    if (!('failure' in answer) || !isSilenceCode(answer.failure.code)) return []
    const { repository, failure } = answer
    const error = new LifeboatError('storage-unreachable', `repository ${repository.name}: ${failure.message}`, {
      hint: failure.hint ?? 'see whether its disk or server hangs, and the network between',
    })
    return [{ repository, error }]
  })
  return { answering: repositories.filter((one) => !silent.some(({ repository }) => repository === one)), silent }
}

/** True for what a repository fails with that does not answer. */
export function isSilence(error: unknown): boolean {
  return error instanceof LifeboatError && isSilenceCode(error.code)
}

function isSilenceCode(code: LifeboatError['code']): boolean {
  return code === 'storage-unreachable' || code === 'timed-out'
}
