import fc from 'fast-check'
import t from 'tap'
import { compareLsn, formatLsn, parseLsn } from '../../src/domain/lsn.ts'

t.test('the order of places in the WAL', async (t) => {
  const ascending = ['0/0', '0/9', '0/A', '0/10', '0/FFFFFFFF', '1/0', '9/FFFFFFFF', 'A/0', '16/B374D848', 'FFFFFFFF/0']
  for (const [i, a] of ascending.entries()) {
    for (const [j, b] of ascending.entries()) {
      t.equal(Math.sign(compareLsn(a, b)), Math.sign(i - j), `${a} and ${b}`)
    }
  }
  t.equal(compareLsn('1/00000010', '1/10'), 0, 'padded or not')
  t.equal(Math.sign(compareLsn('FFFFFFFF/FFFFFFFE', 'FFFFFFFF/FFFFFFFF')), -1, 'no bit is lost')
})

t.test('places as numbers', async (t) => {
  t.equal(parseLsn('0/0'), 0n)
  t.equal(parseLsn('16/B374D848'), 0x16_b374d848n)
  t.equal(parseLsn('ffffffff/00000001'), 0xffffffff_00000001n, 'no bit is lost')
  for (const bad of [
    '',
    '/',
    '0',
    '0/',
    '/0',
    '0/0 ',
    ' 0/0',
    '0/0\n',
    '0/G',
    '123456789/0',
    '0/123456789',
    '-1/0',
    '0x1/0',
    '0/0/0',
  ])
    t.equal(parseLsn(bad), null, JSON.stringify(bad))
  t.throws(() => formatLsn(-1n), RangeError)
  t.throws(() => formatLsn(2n ** 64n), RangeError)
  const places = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  fc.assert(fc.property(places, (lsn) => parseLsn(formatLsn(lsn)) === lsn))
  fc.assert(
    fc.property(
      places,
      places,
      (a, b) => Math.sign(compareLsn(formatLsn(a), formatLsn(b))) === Number(a > b) - Number(a < b),
    ),
  )
})
