/**
 * Every failure that Lifeboat reports carries one of these codes. They are stable: scripts, alerts and runbooks match on
 * them, so a code is never renamed and never reused. `exit` is the exit code of the CLI, `http` the status of the API.
 */
export const errorCodes = {
  // What the caller sent is wrong: nothing was started.
  'config-invalid': { exit: 2, http: 500, meaning: 'the configuration has problems; every one of them is listed' },
  'usage-invalid': { exit: 2, http: 400, meaning: 'an argument, id, name or path is not acceptable' },
  'not-found': { exit: 2, http: 404, meaning: 'what was named does not exist' },
  unauthenticated: { exit: 2, http: 401, meaning: 'no token, or one that is not known' },
  forbidden: { exit: 2, http: 403, meaning: 'the token has too low a role, or no token is configured' },
  conflict: { exit: 3, http: 409, meaning: 'the same run is under way, or what should be made exists already' },
  'queue-full': { exit: 3, http: 429, meaning: 'too many runs wait for the same lane already' },
  // The surroundings are not as the work needs them.
  'program-missing': {
    exit: 4,
    http: 500,
    meaning: 'a program that is needed is not installed, or not in this version',
  },
  'client-too-old': { exit: 4, http: 500, meaning: 'every pg_dump here is older than the server' },
  'hook-failed': { exit: 1, http: 500, meaning: 'a command that runs before the job failed' },
  'program-failed': { exit: 1, http: 500, meaning: 'a program ended badly; its last words are in the message' },
  'alert-drill-failed': {
    exit: 1,
    http: 500,
    meaning: 'an alert did not get through: the message says how far it came',
  },
  'server-unreachable': { exit: 1, http: 503, meaning: 'there was no connection to PostgreSQL, or it broke' },
  'server-authentication': { exit: 1, http: 503, meaning: 'PostgreSQL refused the role or its password' },
  'server-error': { exit: 1, http: 500, meaning: 'PostgreSQL refused a statement' },
  'database-missing': { exit: 1, http: 404, meaning: 'a database does not exist, or was dropped meanwhile' },
  'disk-full': { exit: 1, http: 507, meaning: 'no space is left where something had to be written' },
  'storage-failed': { exit: 1, http: 500, meaning: 'a repository or the state directory cannot be read or written' },
  'storage-unreachable': { exit: 1, http: 503, meaning: 'a bucket could not be reached, or gave no answer in time' },
  'storage-credentials': {
    exit: 1,
    http: 503,
    meaning: 'a bucket refused the keys, or what they may do; or there are none',
  },
  'object-missing': { exit: 1, http: 404, meaning: 'a stored file is not there' },
  'object-exists': { exit: 1, http: 409, meaning: 'a stored file is there already and is not replaced' },
  'identity-missing': { exit: 1, http: 409, meaning: 'it is encrypted, and no private key is configured here' },
  'identity-mismatch': { exit: 1, http: 409, meaning: 'it is encrypted, for other keys than the configured ones' },
  // What was found is not what a backup must be.
  'manifest-missing': { exit: 1, http: 404, meaning: 'the folder holds no complete backup' },
  'manifest-invalid': { exit: 1, http: 500, meaning: 'the manifest is torn, was edited, or is of a newer format' },
  'proof-invalid': { exit: 1, http: 500, meaning: 'a proof is torn, was edited, or is of a newer format' },
  'artifact-invalid': { exit: 1, http: 500, meaning: 'a file of a backup is not what its manifest says' },
  'wal-invalid': { exit: 1, http: 500, meaning: 'a file of the WAL is torn, damaged, or not what its name says' },
  'wal-missing': { exit: 1, http: 500, meaning: 'WAL that a backup needs did not come into a repository in time' },
  'verification-failed': { exit: 1, http: 500, meaning: 'a backup, or what was restored from it, is wrong' },
  'verification-inconclusive': { exit: 5, http: 500, meaning: 'something around the backup kept us from verifying it' },
  'not-recoverable': { exit: 1, http: 409, meaning: 'what was asked for cannot be restored from what is stored' },
  'retention-refused': {
    exit: 6,
    http: 409,
    meaning: 'no backup was expired, since something that the decision depends on is not known or in doubt',
  },
  // How a run ended.
  cancelled: { exit: 130, http: 500, meaning: 'somebody cancelled the run' },
  'timed-out': { exit: 1, http: 500, meaning: 'the run took longer than its timeout' },
  interrupted: { exit: 1, http: 503, meaning: 'Lifeboat stopped or was killed during the run' },
  unexpected: { exit: 1, http: 500, meaning: 'a fault of Lifeboat itself: please report it with the log' },
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

/** True for a repository that cannot be used just now, which says nothing about what is in it. */
export function isStorageFailure(code: string | undefined): boolean {
  return code === 'storage-failed' || code === 'storage-unreachable' || code === 'storage-credentials'
}

/** Turns anything thrown into a Failure. Unknown errors keep their message under the code `unexpected`. */
export function toFailure(error: unknown): Failure {
  if (error instanceof LifeboatError) {
    return { code: error.code, message: error.message, ...(error.hint ? { hint: error.hint } : {}) }
  }
  return { code: 'unexpected', message: error instanceof Error ? error.message : String(error) }
}

/** The page docs/errors.md, made from the table above. */
export function renderErrorsDocument(): string {
  const rows = Object.entries(errorCodes).map(
    ([code, { meaning, exit, http }]) => `| \`${code}\` | ${meaning} | ${exit} | ${http} |`,
  )
  return `# Error codes

<!-- Generated by \`npm run docs\` from src/domain/errors.ts: do not edit. -->

Every failure carries a stable code, a message that says what happened, and where there is one a hint that says what to do. Scripts
may match on the code: none is ever renamed or used for something else. The exit code is that of the CLI, the status that of
the API, whose errors are \`application/problem+json\` (RFC 9457) with the member \`code\`.

| code | meaning | exit code | status |
|---|---|---|---|
${rows.join('\n')}
`
}
