/**
 * Every failure that Lifeboat reports carries one of these codes. They are stable: scripts, alerts and runbooks match on
 * them, so a code is never renamed and never reused. `exit` is the exit code of the CLI, `http` the status of the API.
 */
export const errorCodes = {
  // What the caller sent is wrong: nothing was started.
  'config-invalid': { exit: 2, http: 500 },
  'usage-invalid': { exit: 2, http: 400 },
  'not-found': { exit: 2, http: 404 },
  unauthenticated: { exit: 2, http: 401 },
  forbidden: { exit: 2, http: 403 },
  conflict: { exit: 3, http: 409 },
  // The surroundings are not as the work needs them.
  'program-missing': { exit: 4, http: 500 },
  'client-too-old': { exit: 4, http: 500 },
  'program-failed': { exit: 1, http: 500 },
  'server-unreachable': { exit: 1, http: 503 },
  'server-authentication': { exit: 1, http: 503 },
  'server-error': { exit: 1, http: 500 },
  'database-missing': { exit: 1, http: 404 },
  'disk-full': { exit: 1, http: 507 },
  'storage-failed': { exit: 1, http: 500 },
  'object-missing': { exit: 1, http: 404 },
  'object-exists': { exit: 1, http: 409 },
  // What was found is not what a backup must be.
  'manifest-missing': { exit: 1, http: 404 },
  'manifest-invalid': { exit: 1, http: 500 },
  'artifact-invalid': { exit: 1, http: 500 },
  'verification-failed': { exit: 1, http: 500 },
  'verification-inconclusive': { exit: 5, http: 500 },
  // How a run ended.
  cancelled: { exit: 130, http: 500 },
  'timed-out': { exit: 1, http: 500 },
  interrupted: { exit: 1, http: 500 },
  unexpected: { exit: 1, http: 500 },
} as const

export type ErrorCode = keyof typeof errorCodes

export interface ErrorDetails {
  /** What the reader can do about it: an imperative sentence. */
  readonly hint?: string
  /** Facts that a program may want: never secrets, never row data. */
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
}

/** A failure with a stable code. The message is lower-case and says what happened; the hint says what to do. */
export class LifeboatError extends Error {
  override readonly name = 'LifeboatError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, { hint, details, cause }: ErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.hint = hint
    this.details = details
  }
}

/** A failure as it is stored in the history, sent by the API and printed by the CLI. */
export interface Failure {
  readonly code: ErrorCode
  readonly message: string
  readonly hint?: string
}

/** Turns anything thrown into a Failure. Unknown errors keep their message under the code `unexpected`. */
export function toFailure(error: unknown): Failure {
  if (error instanceof LifeboatError) {
    return { code: error.code, message: error.message, ...(error.hint ? { hint: error.hint } : {}) }
  }
  return { code: 'unexpected', message: error instanceof Error ? error.message : String(error) }
}
