import { type ErrorCode, LifeboatError } from '../domain/errors.ts'

/**
 * Finds the cause that a PostgreSQL program names on stderr and gives it its own code. Programs have no error codes, so
 * their words are the only evidence; they run with LC_ALL=C, and strerror's and libpq's words have been the same for
 * decades. What is not recognised stays `program-failed`.
 */
const causes: readonly [pattern: RegExp, code: ErrorCode, hint: string, lasts?: true][] = [
  [
    /No space left on device|Disk quota exceeded|could not extend file|wrote (?:only )?\d+ of \d+/,
    'disk-full',
    'free some space, or set workDir to a larger disk',
  ],
  [
    /password authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects|no password supplied|Peer authentication failed|FATAL: +role ".*" does not exist/s,
    'server-authentication',
    'check postgres.user, postgres.passwordFile and pg_hba.conf',
  ],
  [/database ".*" does not exist/s, 'database-missing', 'it was dropped or renamed meanwhile'],
  [
    /certificate verify failed|server certificate for .* does not match|server does not support SSL|root certificate file .* does not exist|could not translate host name .*(?:Name or service not known|No address associated)/s,
    'server-unreachable',
    'check postgres.host, postgres.sslMode and postgres.sslRootCert',
    true,
  ],
  [
    /Temporary failure in name resolution|server closed the connection unexpectedly|connection to server .* failed|terminating connection|could not connect|the database system is/s,
    'server-unreachable',
    'check that the server runs; a run that was cut off can be started again',
  ],
  [
    /aborting because of server version mismatch/,
    'client-too-old',
    'install a newer postgresql-client, or set postgres.binDir',
  ],
]

/** The same failure under the code of its cause. Anything but `program-failed` is handed back as it is. */
export function withCause(error: unknown): unknown {
  if (!(error instanceof LifeboatError) || error.code !== 'program-failed') return error
  const stderr = error.details?.stderr
  const text = `${error.message}\n${typeof stderr === 'string' ? stderr : ''}`
  const found = causes.find(([pattern]) => pattern.test(text))
  if (found === undefined) return error
  const [, code, hint, lasts] = found
  const details = { ...error.details, ...(lasts ? { lasts } : {}) }
  return new LifeboatError(code, error.message, { hint, cause: error, details })
}

/**
 * Whether a program that failed was ended by a signal (the OOM killer's SIGKILL), itself or a worker of it. Only a worker
 * that could not say why it ends is a killed one. Source: src/bin/pg_dump/parallel.c
 */
export function wasKilled(error: unknown): boolean {
  if (!(error instanceof LifeboatError) || error.code !== 'program-failed') return false
  const { signal, stderr } = error.details ?? {}
  if (typeof signal === 'string') return true
  const errors = typeof stderr === 'string' ? stderr.split('\n').filter((line) => / (?:error|fatal): /.test(line)) : []
  return errors.length > 0 && errors.every((line) => line.endsWith('a worker process died unexpectedly'))
}
