import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Ending } from './history.ts'

type Outcome = Pick<Ending, 'state' | 'failure'>

/** Thrown by a job that failed, and then went on with what belongs to it: an abort that came later changes nothing. */
export class DecidedError extends Error {
  readonly outcome: Outcome

  constructor(outcome: Outcome, cause: unknown) {
    super(outcome.failure?.message ?? outcome.state, { cause })
    this.outcome = outcome
  }
}

export const succeeded: Outcome = { state: 'succeeded', failure: null }

/**
 * What it means that a job threw `error` while its signal was in this state.
 * Timeout and shutdown are the cause of whatever the job threw after them. A cancelled job may fail for a reason of its own
 * (what it left could not be removed): only an error that says "cancelled" or "aborted" makes the run `cancelled`.
 */
export function outcomeOf(error: unknown, signal: AbortSignal): Outcome {
  if (error instanceof DecidedError) return error.outcome
  if (!signal.aborted) return failed(error)
  const reason: unknown = signal.reason
  const isCancel = reason instanceof LifeboatError && reason.code === 'cancelled'
  if (!isCancel) return failed(reason)
  return error === reason || isAbort(error) ? { state: 'cancelled', failure: describe(reason) } : failed(error)
}

/** The outcome of a run whose job did not end after its signal had aborted with this reason. */
export function outcomeOfStuck(reason: unknown): Outcome {
  const failure = describe(reason)
  return { state: failure.code === 'cancelled' ? 'cancelled' : 'failed', failure }
}

function failed(error: unknown): Outcome {
  return { state: 'failed', failure: describe(error) }
}

/** Anything can be thrown, even what cannot be turned into a string. */
function describe(error: unknown): Failure {
  try {
    return toFailure(error)
  } catch {
    return { code: 'unexpected', message: 'something that is not an error was thrown' }
  }
}

function isAbort(error: unknown): boolean {
  if (error instanceof LifeboatError) return error.code === 'cancelled'
  return error instanceof Error && error.name === 'AbortError'
}
