import t from 'tap'
import { rpoWarning } from '../../src/config/objectives.ts'

const warningOf = (dump: string | null, rpoSeconds: number, full: string | null = null) =>
  rpoWarning({
    schedule: { dump, full, incremental: null, verify: null, expire: null, alertDrill: null, catchUp: true },
    objectives: { rpoSeconds, rtoSeconds: 1 },
  })

await t.test('an objective that the schedule cannot hold is told', async (t) => {
  t.equal(warningOf('0 2 * * *', 3600), 'dumps alone cannot hold an RPO of 1h: the longest gap between dumps is 1d')
  t.match(warningOf('0 2,8 * * *', 17 * 3600), /an RPO of 17h: the longest gap between dumps is 18h/)
  t.match(warningOf('0 2 * * 1-5', 2 * 86_400), /gap between dumps is 3d/)
  t.equal(warningOf('0 2 * * *', 86_400), null)
  t.equal(warningOf('*/30 * * * *', 3600), null)
  t.equal(warningOf(null, 1), null, 'nobody knows when they come')
  t.equal(warningOf('0 2 * * *', 3600, '0 3 * * *'), null, 'the WAL after a physical backup holds it')
})
