import type { ValidatedConfig } from '../config/validated.ts'
import { type Failure, toFailure } from '../domain/errors.ts'
import { type Answering, whoAnswers } from '../fetch/answering.ts'
import type { Repository } from '../repository/repository.ts'
import type { CliContext } from './command.ts'

/** Those that answer within `observe.timeout`: a look at several waits for none that hangs. */
export function thoseThatAnswer(
  repositories: readonly Repository[],
  { observe }: Pick<ValidatedConfig, 'observe'>,
  { clock, signal }: Pick<CliContext, 'clock' | 'signal'>,
): Promise<Answering> {
  return whoAnswers(repositories, { clock, signal, patienceMs: 1000 * observe.timeoutSeconds })
}

/** What a look at a repository failed with, and at which one. */
export function failureIn(name: string, error: unknown): Failure {
  const failure = toFailure(error)
  const isNamed = [`${name}: `, `repository ${name}: `].some((words) => failure.message.startsWith(words))
  return isNamed ? failure : { ...failure, message: `repository ${name}: ${failure.message}` }
}
