import { randomInt } from 'node:crypto'
import t from 'tap'
import { truth } from './truth.ts'

for (const major of [15, 17] as const) {
  t.test(`the recovery point is true, PostgreSQL ${major}`, { timeout: 240_000 }, (t) =>
    truth(t, { major, kills: 3, seed: randomInt(2 ** 31) }),
  )
}
