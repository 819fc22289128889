import { randomInt } from 'node:crypto'
import t from 'tap'
import { truth } from './truth.ts'

t.test('the recovery point is true', { timeout: 240_000 }, (t) =>
  truth(t, { major: 17, kills: 3, seed: randomInt(2 ** 31), stream: false }),
)
