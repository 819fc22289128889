import t from 'tap'
import { WalRate } from '../../src/observe/wal-rate.ts'

const server = { systemIdentifier: '7', timeline: 1 }

t.test('how fast WAL is written', async (t) => {
  const rate = new WalRate()
  const minute = (n: number) => n * 60_000
  t.equal(rate.note({ ...server, lsn: 1000n }, 0), null, 'one look tells nothing')
  t.equal(rate.note({ ...server, lsn: 1500n }, 5000), 100)
  for (let n = 1; n <= 60; n += 1) rate.note({ ...server, lsn: 1000n + BigInt(n) * 6000n }, minute(n))
  t.equal(rate.note({ ...server, lsn: 361_000n + 3_600_000n }, minute(120)), 1000, 'over the last hour alone')
  t.equal(rate.note({ ...server, lsn: 500n }, minute(121)), null, 'WAL was lost: what was before says nothing')
  t.equal(rate.note({ ...server, timeline: 2, lsn: 900n }, minute(122)), null, 'on another timeline')
  t.equal(rate.note({ ...server, timeline: 2, lsn: 900n }, minute(123)), 0, 'idle is not unknown')
})
