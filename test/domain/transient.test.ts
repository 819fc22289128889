import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { passingCause, passingErrnos, passingStates } from '../../src/domain/transient.ts'
import { withCause } from '../../src/postgres/failures.ts'

const errno = (code: string, cause?: unknown) => Object.assign(new Error(code, { cause }), { code })

t.test('what can pass', async (t) => {
  for (const [sqlState, reason] of Object.entries(passingStates)) {
    t.match(sqlState, /^[0-9A-Z]{5}$/)
    t.equal(passingCause(new LifeboatError('server-error', 'no', { details: { sqlState } })), reason, sqlState)
  }
  for (const code of Object.keys(passingErrnos)) {
    t.ok(passingCause(new LifeboatError('storage-failed', 'no', { cause: errno(code) })), code)
    t.ok(passingCause(new Error('no', { cause: errno('X', errno(code)) })), `${code}, far down`)
  }
  t.ok(passingCause(new LifeboatError('server-unreachable', 'connection refused')))
  t.ok(passingCause(new LifeboatError('server-unreachable', 'no', { details: { sqlState: '57P03' } })))
  t.ok(
    passingCause(new LifeboatError('server-unreachable', 'no', { cause: errno('ENOENT') })),
    'the socket of a server that is down',
  )
})

t.test('what will fail again', async (t) => {
  for (const code of [
    'verification-failed',
    'server-authentication',
    'disk-full',
    'client-too-old',
    'database-missing',
    'cancelled',
    'conflict',
  ] as const) {
    t.equal(passingCause(new LifeboatError(code, 'no', { cause: errno('ECONNRESET') })), null, code)
  }
  for (const sqlState of ['42501', '53100', '28P01', '3D000', 'XX001']) {
    t.equal(passingCause(new LifeboatError('server-error', 'no', { details: { sqlState } })), null, sqlState)
  }
  t.equal(passingCause(new LifeboatError('storage-failed', 'no', { cause: errno('EACCES') })), null)
  t.equal(passingCause(errno('ENOSPC')), null)
  for (const code of [
    'ENOTFOUND',
    'EACCES',
    'EPROTO',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'CERT_HAS_EXPIRED',
    'CERT_NOT_YET_VALID',
    'CRL_HAS_EXPIRED',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    'INVALID_CA',
    'HOSTNAME_MISMATCH',
  ]) {
    for (const cause of [errno(code), new Error('wrapped', { cause: errno(code) }), errno('X', errno(code))]) {
      t.equal(
        passingCause(new LifeboatError('server-unreachable', 'no', { details: { sqlState: '' }, cause })),
        null,
        code,
      )
    }
  }
  for (const odd of [null, undefined, 'ECONNRESET', {}, new Error('no')]) t.equal(passingCause(odd), null)
  const round = new Error('round')
  round.cause = round
  t.equal(passingCause(round), null, 'a chain that bites its tail')
})

t.test('what a program says', async (t) => {
  const said = (stderr: string) =>
    passingCause(withCause(new LifeboatError('program-failed', 'pg_dump failed', { details: { stderr } })))
  const failed = 'connection to server at "db" (10.0.0.1), port 5432 failed: '
  t.ok(said(`${failed}Connection refused`))
  t.ok(said('could not translate host name "db" to address: Temporary failure in name resolution'))
  t.equal(said('could not translate host name "db" to address: Name or service not known'), null)
  t.equal(said(`${failed}SSL error: certificate verify failed`), null)
  t.equal(said(`${failed}server certificate for "other" does not match host name "db"`), null)
  t.equal(said(`${failed}server does not support SSL, but SSL was required`), null)
  t.equal(said(`${failed}root certificate file "/nowhere.pem" does not exist`), null)
  t.equal(said('something else'), null)
})
