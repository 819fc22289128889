import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { badKeys, minimal, refusal } from './support.ts'

const first = '0000000100000A2C000000FE'
const last = '0000000100000A2D00000003'
const holes = (text: string) => `${minimal}wal: { holes: [${text}] }\n`

t.test('holes that are known', async (t) => {
  const text = `{ first: ${first}, last: ${last}, reason: a full disk, until: 2027-01-01 }, { first: "${first}", reason: x, until: "2027-01-01T12:00:00+02:00" }`
  const { wal } = await loadConfig({ text: holes(text), env: {} })
  t.same(wal.holes, [
    { first, last, reason: 'a full disk', until: new Date('2027-01-01T00:00:00Z') },
    { first, last: first, reason: 'x', until: new Date('2027-01-01T10:00:00Z') },
  ])
})

t.test('what is no hole', async (t) => {
  const [name, until] = [`first: ${first}`, 'until: 2027-01-01']
  for (const [text, key] of [
    [`{ ${name}, ${until} }`, 'reason'],
    [`{ ${name}, reason: x }`, 'until'],
    [`{ ${name}, reason: '', ${until} }`, 'reason'],
    [`{ ${until}, reason: x }`, 'first'],
    [`{ first: ${first.toLowerCase()}, reason: x, ${until} }`, 'first'],
    [`{ first: ${first}.partial, reason: x, ${until} }`, 'first'],
    [`{ first: 1, reason: x, ${until} }`, 'first'],
    [`{ ${name}, last: 0000000200000A2D00000003, reason: x, ${until} }`, 'last'],
    [`{ first: ${last}, last: ${first}, reason: x, ${until} }`, 'last'],
    [`{ ${name}, reason: x, until: 2027-02-31 }`, 'until'],
    [`{ ${name}, reason: x, until: 2027-13-01 }`, 'until'],
    [`{ ${name}, reason: x, until: 2027-01-01T12:00:00 }`, 'until'],
    [`{ ${name}, reason: x, until: tomorrow }`, 'until'],
    [`{ ${name}, reason: x, ${until}, timeline: 1 }`, 'timeline'],
  ] as const)
    t.same(await badKeys(holes(text)), [`wal.holes[0].${key}`], text)
  const { error } = await refusal({ text: holes(`{ ${name}, reason: x, until: soon }`), env: {} })
  t.match(error.message, /wal\.holes\[0\]\.until .*must be a date, or a date and a time with its offset from UTC/)
})

t.test('how often the clock is noted', async (t) => {
  const { wal } = await loadConfig({ text: minimal, env: {} })
  t.equal(wal.clockSeconds, 5)
  t.same(await badKeys(`${minimal}wal: { clockInterval: 100ms }\n`), ['wal.clockInterval'])
})
