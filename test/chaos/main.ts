/** `npm run chaos -- --minutes 10 --seed 7`: kills a sidecar and its children at random moments, then looks at what is left. */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import t from 'tap'
import { chaos } from './chaos.ts'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' } } })
const seconds = Number(values.minutes) * 60
const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
if (!(seconds > 0) || !Number.isInteger(seed)) throw new Error('usage: npm run chaos -- [--minutes N] [--seed INTEGER]')

const timeout = (seconds + 900) * 1000
t.setTimeout(timeout)
await t.test('chaos', { timeout }, (t) => chaos(t, { seconds, seed }))
