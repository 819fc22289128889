import { errorCodes, LifeboatError, toFailure } from '../domain/errors.ts'
import type { QuickContext } from './command.ts'
import { errorText } from './error-text.ts'

/** Tells on stderr, and as JSON where that was wanted, why a command has failed. Gives the exit code. */
export function report(error: unknown, argv: readonly string[], { out, err }: QuickContext): number {
  const failure = toFailure(error)
  if (argv.includes('--json')) out.write(`${JSON.stringify({ error: failure }, null, 2)}\n`)
  err.write(`lifeboat: ${errorText(failure)}`)
  if (!(error instanceof LifeboatError)) err.write(`${(error as Error).stack ?? ''}\n`)
  return errorCodes[failure.code].exit
}
