import { randomInt } from 'node:crypto'
import t from 'tap'
import { chaos } from './chaos.ts'

t.test('killed at random moments', { timeout: 240_000 }, (t) => chaos(t, { seconds: 25, seed: randomInt(2 ** 31) }))
