import { LifeboatError } from './errors.ts'

/**
 * SQLSTATEs of failures that can pass by themselves, and why.
 * Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export const passingStates: Readonly<Record<string, string>> = {
  '08000': 'the connection broke',
  '08001': 'the server did not answer',
  '08003': 'the connection broke',
  '08004': 'the server did not accept the connection',
  '08006': 'the connection broke',
  '40001': 'another transaction was in the way',
  '40P01': 'a deadlock was resolved',
  '53000': 'the server was short of resources',
  '53200': 'the server was short of memory',
  '53300': 'the server had no connection left',
  '55006': 'an object was in use',
  '55P03': 'a lock could not be had',
  '57P01': 'an administrator ended the session',
  '57P02': 'the server crashed and recovers',
  '57P03': 'the server starts up or shuts down',
  '58000': 'the system of the server failed',
}

/** Error codes of the system that can pass by themselves, and why. Source: errno(3). Not ENOSPC: somebody must make room. */
export const passingErrnos: Readonly<Record<string, string>> = {
  EAGAIN: 'the system was short of resources',
  EAI_AGAIN: 'no name server answered',
  EBUSY: 'the file or disk was busy',
  ECONNABORTED: 'the connection broke',
  ECONNREFUSED: 'nobody listened yet',
  ECONNRESET: 'the connection broke',
  EHOSTDOWN: 'the host was down',
  EHOSTUNREACH: 'the host could not be reached',
  EINTR: 'the call was interrupted',
  EMFILE: 'too many files were open',
  ENETDOWN: 'the network was down',
  ENETUNREACH: 'the network could not be reached',
  ENFILE: 'too many files were open',
  ENOMEM: 'memory was short',
  EPIPE: 'the connection broke',
  ESTALE: 'the network file system lost the file',
  ETIMEDOUT: 'it took too long to answer',
}

/**
 * Codes of a connection that cannot be made until somebody corrects something, though the server seems to be away: a host
 * name that does not exist, a socket that we must not use, and all that is said about TLS and certificates.
 * Sources: getaddrinfo(3), https://nodejs.org/docs/latest-v24.x/api/tls.html#x509-certificate-error-codes
 */
const lastingCode =
  /^(?:ENOTFOUND|EACCES|EPERM|EPROTO|(?:ERR_SSL|ERR_TLS|CERT|CRL|UNABLE_TO|ERROR_IN)_.*|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|HOSTNAME_MISMATCH)$/

/** How far a chain of causes is followed. */
const mostCauses = 8

/**
 * Why a failure can pass by itself, so that the same attempt may succeed a little later; null for all that will fail again
 * until somebody does something: a wrong password, a full disk, a bad configuration, a backup that is not what it must be.
 * Who knows that of a failure without a code says so in its details, as `lasts: true`.
 */
export function passingCause(error: unknown): string | null {
  let isAway = false
  if (error instanceof LifeboatError) {
    const state = error.details?.sqlState
    if (typeof state === 'string' && passingStates[state] !== undefined) return passingStates[state]
    // Without a state: libpq or the driver lost it, or never reached it.
    isAway =
      error.code === 'storage-unreachable' ||
      (error.code === 'server-unreachable' && (state === undefined || state === ''))
    if (error.details?.lasts === true || (!isAway && error.code !== 'storage-failed')) return null
  }
  for (let cause = error, depth = 0; cause instanceof Error && depth < mostCauses; cause = cause.cause, depth += 1) {
    const code = 'code' in cause ? cause.code : undefined
    if (typeof code !== 'string') continue
    if (passingErrnos[code] !== undefined) return passingErrnos[code]
    if (lastingCode.test(code)) return null
  }
  return isAway ? 'the server did not answer' : null
}
