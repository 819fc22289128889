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
 * is left to what is done with it; and when none answers all stay, so that the same happens as with a single one.
 *
 * @throws the signal's reason
 */
export async function whichAnswer(
  repositories: readonly Repository[],
  { patienceMs = usualPatienceMs, ...rest }: Omit<Asking, 'patienceMs'> & Partial<Asking>,
): Promise<Answering> {
  if (repositories.length < 2) return { answering: repositories, silent: [] }
  const told = await whoAnswers(repositories, { ...rest, patienceMs })
  return told.answering.length === 0 ? { answering: repositories, silent: [] } : told
}

/**
 * Like `whichAnswer`; but also one that is alone is left out when it says nothing, for who has something to tell without it.
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
