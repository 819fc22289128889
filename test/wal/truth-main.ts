/** `npm run chaos:wal -- --kills 20 --major 17 --seed 7`: kills server and sidecar at random moments, and restores each time. */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import t from 'tap'
import type { Major } from '../support/postgres.ts'
import { truth } from './truth.ts'

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '20' },
    major: { type: 'string', default: '15' },
    seed: { type: 'string' },
    stream: { type: 'boolean', default: false },
  },
})
const [kills, major] = [Number(values.kills), Number(values.major)]
const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
if (!Number.isInteger(kills) || !Number.isInteger(major) || !Number.isInteger(seed))
  throw new Error('usage: npm run chaos:wal -- [--kills N] [--major 15|17|18] [--seed INTEGER] [--stream]')

const timeout = (kills * 60 + 300) * 1000
t.setTimeout(timeout)
const options = { major: major as Major, kills, seed, stream: values.stream }
await t.test('the recovery point is true', { timeout }, (t) => truth(t, options))
