import type { Failure } from '../domain/errors.ts'
import { withoutControls } from './format.ts'

/** A failure for a terminal: what happened, then what to do. Names in it may hold anything, so it is made harmless. */
export function errorText(failure: Failure | null | undefined): string {
  if (failure === null || failure === undefined) return 'it failed without saying why\n'
  const { message, hint } = failure
  return `${withoutControls(message)}\n${hint ? `HINT: ${withoutControls(hint)}\n` : ''}`
}
