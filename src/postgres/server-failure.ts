import { LifeboatError } from '../domain/errors.ts'

/** A login that was refused. */
export function authenticationFailure(message: string, cause: unknown, sqlState: string): LifeboatError {
  return new LifeboatError('server-authentication', message, {
    hint: 'check postgres.user, postgres.passwordFile and pg_hba.conf',
    details: { sqlState },
    cause,
  })
}

const authentication = new Set(['28000', '28P01'])
const unreachable = new Set(['57P01', '57P02', '57P03', '53300', '08000', '08001', '08003', '08004', '08006'])
/** The classes begin with a digit or one of these; what Node's network and TLS say (ECONNREFUSED, …) does not look alike. */
const sqlState = /^(?:\d.|F0|HV|P0|XX)[0-9A-Z]{3}$/

/**
 * Gives a driver's error one of our codes. SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
 * The server's message is kept; DETAIL is not, since it may hold row data.
 */
export function serverFailure(error: unknown): LifeboatError {
  if (error instanceof LifeboatError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  const state = typeof code === 'string' && sqlState.test(code) ? code : ''
  const text = typeof message === 'string' && message !== '' ? message : String(error)
  // The driver has no code for it.
  const lasts = text === 'The server does not support SSL connections'
  const details = { sqlState: state, ...(lasts ? { lasts } : {}) }
  if (authentication.has(state)) return authenticationFailure(text, error, state)
  if (state === '3D000') return new LifeboatError('database-missing', text, { details, cause: error })
  if (state === '' || unreachable.has(state)) {
    return new LifeboatError('server-unreachable', text, {
      hint: 'check that the server runs, and postgres.host and postgres.port',
      details,
      cause: error,
    })
  }
  const hint =
    state === '42501'
      ? 'for a restore, name a superuser with --user and --password-file (docs/restore.md); for a backup, `lifeboat check` lists what the role needs'
      : undefined
  return new LifeboatError('server-error', text, { details, cause: error, ...(hint ? { hint } : {}) })
}
