import { LifeboatError } from '../domain/errors.ts'
import { clockBehindBy, rightsFor } from './s3-operation.ts'

/** What kind of trouble a request had that may be gone at the next attempt; null for all that would fail again. */
export type Passing = 'throttled' | 'server' | 'network' | 'damaged'

const throttled = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'RequestLimitExceeded',
  'TooManyRequests',
  'TooManyRequestsException',
  'ServiceUnavailable',
  'RequestThrottled',
  'BandwidthLimitExceeded',
])
const damaged = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'InvalidDigest', 'IncompleteBody'])
const passingNames = new Set([
  'InternalError',
  'OperationAborted',
  // A conditional write that met another one: neither has won yet.
  'ConditionalRequestConflict',
  'RequestTimeout',
  // The SDK has learned from the answer how much the clocks differ, and goes by the server's from then on.
  'RequestTimeTooSkewed',
])
const networkCodes =
  /^(?:ECONN\w*|EPIPE|ETIMEDOUT|EAI_AGAIN|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EPROTO|ERR_STREAM_PREMATURE_CLOSE|ERR_PROXY\w*)$/
// https://nodejs.org/docs/latest-v24.x/api/tls.html#x509-certificate-error-codes
const certificateCodes =
  /^(?:(?:CERT|CRL|UNABLE_TO|ERR_TLS|ERR_SSL)_.*|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|INVALID_CA)$/

const credentials = new Set([
  'AccessDenied',
  'AllAccessDisabled',
  'ExpiredToken',
  'ExpiredTokenException',
  'Forbidden',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidToken',
  'SignatureDoesNotMatch',
  'TokenRefreshRequired',
  'CredentialsProviderError',
])

const otherRegion = new Set(['PermanentRedirect', 'IllegalLocationConstraintException', 'AuthorizationHeaderMalformed'])

/** Refusals that look like others, and stay until somebody corrects a setting. */
const needsSomebody = new Set(['AuthorizationHeaderMalformed', 'RequestTimeTooSkewed'])

/** The name that the server, or Node, gave the failure. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : ''
}

/** What the server, or Node, said. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : ''
}

/** The HTTP status, or 0 where there was no answer. */
export function statusOf(error: unknown): number {
  if (!(error instanceof Error) || !('$metadata' in error)) return 0
  const metadata = error.$metadata
  const status =
    typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata ? metadata.httpStatusCode : 0
  return typeof status === 'number' ? status : 0
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** Whether the same request may succeed a little later. Our own deadline counts as trouble of the network. */
export function passingKind(error: unknown): Passing | null {
  if (error instanceof LifeboatError) return error.code === 'storage-unreachable' ? 'network' : null
  const [name, status] = [nameOf(error), statusOf(error)]
  if (throttled.has(name) || status === 429 || status === 503) return 'throttled'
  if (damaged.has(name)) return 'damaged'
  if (passingNames.has(name) || (status >= 500 && status !== 501 && status !== 507)) return 'server'
  if (name === 'TimeoutError' || networkCodes.test(codeOf(error)) || isCutShort(error)) return 'network'
  return null
}

/** The connection ended within an answer: Node has no code for some of these, and the SDK cannot read what it got. */
function isCutShort(error: unknown): boolean {
  return error instanceof Error && statusOf(error) === 0 && /\baborted\b|socket hang up/.test(error.message)
}

const hints: Readonly<Record<string, string>> = {
  NoSuchBucket: 'make the bucket, or correct the url of the repository; Lifeboat makes none',
  RequestTimeTooSkewed:
    'the clocks of this machine and of the server differ by more than 15 minutes: set the wrong one',
  InvalidAccessKeyId: 'the server does not know the access key: was it removed, or is it one of another provider?',
  SignatureDoesNotMatch: 'the secret does not belong to the access key, or a proxy changes requests on their way',
  ExpiredToken: 'the session has ended: whatever fetches the credentials must fetch new ones',
  ExpiredTokenException: 'the session has ended: whatever fetches the credentials must fetch new ones',
  TokenRefreshRequired: 'the session has ended: whatever fetches the credentials must fetch new ones',
  CredentialsProviderError:
    'set accessKeyIdFile and secretAccessKeyFile of the repository, or any of the usual ways of AWS',
  InvalidStorageClass:
    'this server does not know the storage class: change storageClass or walStorageClass of the repository',
  InvalidObjectState: 'the object is in cold storage: bring it back first (RestoreObject), then try again',
  NotImplemented: 'the server cannot do what was asked: look into docs/s3.md for the settings of such servers',
  QuotaExceeded: 'raise the quota of the bucket or its owner, or shorten the retention',
  KeyTooLongError: 'shorten the prefix in the url of the repository',
  ENOTFOUND:
    'there is no host of that name: correct endpoint of the repository; servers of your own often need pathStyle',
  ECONNREFUSED: 'nobody listens there: is the server up, and the port in endpoint right?',
}

const slowHint = 'the server asks for fewer requests: if it lasts, lower parallel of the repository or ask its operator'
const certificateHint =
  'set AWS_CA_BUNDLE or NODE_EXTRA_CA_CERTS to a file with the authority that signed the certificate of the server'

/** What can be said by what the server told besides the name. */
function hintByAnswer(name: string, text: string, error: unknown): string | null {
  if (otherRegion.has(name) || statusOf(error) === 301) {
    const region = regionSaidBy(error)
    return `the bucket is in another region: set region of the repository to ${region ?? 'it'}`
  }
  if (name === 'RequestTimeTooSkewed') {
    const behind = clockBehindBy(error)
    if (Math.abs(behind) < 60_000) return null
    const words = `${Math.round(Math.abs(behind) / 60_000)} minutes ${behind > 0 ? 'behind' : 'ahead of'}`
    return `the clock of this machine is ${words} that of the server: set the one that is wrong`
  }
  if (mayNot(error)) {
    // Amazon says which one it was.
    const rights = /\b(?:s3|kms):\w+/.exec(text)?.[0] ?? rightsFor(error)
    const what = rights === null ? 'it' : rights.includes(' on ') ? rights : `${rights} on the objects below the prefix`
    return `let the policy of these keys allow ${what} (docs/s3-policies.md)${name === 'AccessDenied' ? '' : ', and look at the keys and the clock'}`
  }
  return null
}

/** In a header of the answer, or in its body. */
function regionSaidBy(error: unknown): string | null {
  if (!(error instanceof Error)) return null
  if ('Region' in error && typeof error.Region === 'string' && error.Region !== '') return error.Region
  const response: unknown = '$response' in error ? error.$response : null
  if (typeof response !== 'object' || response === null || !('headers' in response)) return null
  const headers = response.headers as Readonly<Record<string, string | undefined>>
  return headers['x-amz-bucket-region'] ?? null
}

/** True when the keys are known and good, and these rights are not among theirs. */
export function mayNot(error: unknown): boolean {
  const [name, status] = [nameOf(error), statusOf(error)]
  return name === 'AccessDenied' || name === 'Forbidden' || (status === 403 && /^(?:Unknown|403|)$/.test(name))
}

/**
 * A failure of S3 as a LifeboatError; one that already is comes back as it is. `doing`: e.g. `cannot read "a/b"`.
 * Codes: `storage-credentials` when the keys are refused, `storage-unreachable` when there was no answer or only pleas to
 * slow down, `object-missing`, else `storage-failed`.
 */
export function s3Failure(doing: string, error: unknown): LifeboatError {
  if (error instanceof LifeboatError) return error
  const [name, code, status] = [nameOf(error), codeOf(error), statusOf(error)]
  if (name === 'NoSuchKey') return new LifeboatError('object-missing', `${doing}: it does not exist`, { cause: error })
  const text = error instanceof Error && error.message !== '' ? error.message : String(error)
  const isMute = /^\d+$|UnknownError/.test(text) // the SDK's word where the server has none
  const words = isMute && name !== '' && name !== 'Error' ? name : text
  const message = status === 0 || words.includes(name) || name === 'Error' ? words : `${words} (${name})`
  const said = `${doing}: ${message.replace(/\s+/g, ' ').trim()}${isMute ? ` (HTTP ${status})` : ''}`
  const kind = passingKind(error)
  const hint =
    hintByAnswer(name, text, error) ??
    hints[name] ??
    hints[code] ??
    (kind === 'throttled' ? slowHint : certificateCodes.test(code) ? certificateHint : null)
  const details = { ...(hint === null ? {} : { hint }), cause: error }
  if (needsSomebody.has(name)) return new LifeboatError('storage-failed', said, details)
  if (credentials.has(name) || status === 401 || (status === 403 && hints[name] === undefined)) {
    return new LifeboatError('storage-credentials', said, details)
  }
  const isAway = kind === 'network' || kind === 'throttled' || kind === 'server' || code === 'ENOTFOUND'
  return new LifeboatError(
    isAway || certificateCodes.test(code) ? 'storage-unreachable' : 'storage-failed',
    said,
    details,
  )
}
