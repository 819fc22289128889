import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { passingCause, passingErrnos, passingStates } from '../../src/domain/transient.ts'

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
  for (const odd of [null, undefined, 'ECONNRESET', {}, new Error('no')]) t.equal(passingCause(odd), null)
  const round = new Error('round')
  round.cause = round
  t.equal(passingCause(round), null, 'a chain that bites its tail')
})
