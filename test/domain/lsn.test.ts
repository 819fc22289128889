import t from 'tap'
import { compareLsn } from '../../src/domain/lsn.ts'

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
