import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { ServerFacts } from '../../src/observe/server.ts'
import {
  createServerMemory,
  type FactStore,
  inferServer,
  rememberedDatabases,
  type ServerMemoryOptions,
} from '../../src/observe/server-memory.ts'
import { history } from '../runner/support.ts'
import { at, backup, repositoryState } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'

const none = new AbortController().signal

function facts(databases: readonly string[], fields: Partial<ServerFacts> = {}): ServerFacts {
  return { systemIdentifier: '7500000000000000001', serverVersion: '15.18', databases, missingDatabases: [], ...fields }
}

/** A state file, and processes that come one after the other and see what `server` holds. */
function world(t: Test) {
  const clock = new FakeClock(at(0))
  const store = history(t.testdir({}), clock)
  t.teardown(() => store.close())
  const server = { facts: facts(['app']) }
  const { log, lines } = keptLog()
  const process = (options: Partial<ServerMemoryOptions> = {}) =>
    createServerMemory({ probe: async () => server.facts, facts: store, databases: null, clock, log, ...options })
  return { clock, store, server, process, lines }
}

await t.test('what was seen outlives the process', async (t) => {
  const { clock, server, process, store } = world(t)
  const first = process()
  t.equal(first.remembered, null)
  t.same(rememberedDatabases(store), [])
  const hostile = ['app', '__proto__', 'a"b\n', ' ']
  server.facts = facts(hostile, { missingDatabases: ['typo'] })
  t.match(await first.look(none), { source: 'server', databases: hostile, appearedAt: new Map() })
  await clock.advance(60_000)
  server.facts = facts([...hostile, 'new'])
  t.same((await first.look(none)).appearedAt, new Map([['new', at(1)]]))

  await clock.advance(60_000)
  const second = process()
  t.same(second.remembered, {
    source: 'memory',
    ...facts([...hostile, 'new']),
    appearedAt: new Map([['new', at(1)]]),
  })
  t.same(rememberedDatabases(store), [...hostile, 'new'])
  server.facts = facts(['app', 'new', 'newer'])
  t.same(
    (await second.look(none)).appearedAt,
    new Map([
      ['new', at(1)],
      ['newer', at(2)],
    ]),
    'known from before',
  )
})

await t.test('a database that goes and comes back is new, and another cluster is not', async (t) => {
  const { clock, server, process } = world(t)
  const memory = process()
  await memory.look(none)
  server.facts = facts([])
  await memory.look(none)
  await clock.advance(60_000)
  server.facts = facts(['app'])
  t.same((await memory.look(none)).appearedAt, new Map([['app', at(1)]]))
  server.facts = facts(['app', 'other'], { systemIdentifier: '2' })
  t.same((await memory.look(none)).appearedAt, new Map(), 'what is found in another cluster may be of any age')
})

await t.test('a clock that was ahead does not put a database off', async (t) => {
  const { clock, server, process } = world(t)
  const memory = process()
  await memory.look(none)
  clock.jump('2040-01-01T00:00:00Z')
  server.facts = facts(['app', 'new'])
  await memory.look(none)
  clock.jump(at(5))
  t.same((await memory.look(none)).appearedAt, new Map([['new', at(5)]]))
})

await t.test('nothing new: the same object, and nothing is written', async (t) => {
  const { server, process, store } = world(t)
  const kept: string[] = []
  const counting: FactStore = {
    fact: (name) => store.fact(name),
    keepFact(name, value) {
      kept.push(value)
      store.keepFact(name, value)
    },
  }
  const memory = process({ facts: counting })
  const state = await memory.look(none)
  t.equal(await memory.look(none), state)
  t.equal(kept.length, 1)
  server.facts = facts(['app'], { serverVersion: '15.19' })
  t.match(await memory.look(none), { serverVersion: '15.19' })
  t.equal(kept.length, 2)
  const next = process({ facts: counting })
  t.match(await next.look(none), { source: 'server' }, 'seen, not remembered, though nothing has changed')
  t.equal(kept.length, 2)
})

await t.test('under another configuration', async (t) => {
  const { server, process } = world(t)
  server.facts = facts(['app', 'crm'], { missingDatabases: ['typo'] })
  await process().look(none)
  t.match(process({ databases: ['crm', 'typo', 'added'] }).remembered, {
    systemIdentifier: '7500000000000000001',
    databases: ['crm', 'added'],
    missingDatabases: ['typo'],
  })
})

await t.test('a state file that cannot be used costs the memory and nothing else', async (t) => {
  const { process, lines } = world(t)
  for (const text of ['{', '{}', 'null', '[]']) {
    const store: FactStore = {
      fact: () => text,
      keepFact() {
        throw new LifeboatError('disk-full', 'no space left')
      },
    }
    lines.length = 0
    t.same(rememberedDatabases(store), [], text)
    const memory = process({ facts: store })
    t.equal(memory.remembered, null)
    t.match(await memory.look(none), { databases: ['app'] })
    await memory.look(none)
    t.same(
      lines.map(({ msg }) => msg),
      [
        'what was kept of the server cannot be read: the next look keeps it anew',
        'what was seen of the server cannot be kept',
      ],
      'told once',
    )
  }
})

await t.test('a look that was given up changes nothing', async (t) => {
  const { server, process, store } = world(t)
  const memory = process()
  await memory.look(none)
  server.facts = facts(['late'])
  await t.rejects(memory.look(AbortSignal.abort(new LifeboatError('timed-out', 'too late'))), { code: 'timed-out' })
  t.same(rememberedDatabases(store), ['app'])
})

await t.test('what backups and configuration tell of a server that nobody has seen', async (t) => {
  const repositories = [
    repositoryState('a', [backup(10, { systemIdentifier: '1', database: 'former' }), backup(20)]),
    repositoryState('b', [backup(30, { database: 'crm' }), backup(5_000, { systemIdentifier: '9' })]),
    repositoryState('c', [backup(40, { type: 'full', database: '', serverVersion: '15.19' })]),
  ]
  const expected = {
    source: 'inferred',
    systemIdentifier: '7500000000000000001',
    serverVersion: '15.19',
    databases: ['app', 'crm'],
    missingDatabases: [],
    appearedAt: new Map(),
  }
  t.same(inferServer(repositories, null, at(600)), expected, 'not from the future, not of a former cluster')
  t.same(inferServer(repositories, ['other'], at(600)), { ...expected, databases: ['other'] })
  t.equal(inferServer([repositoryState('a', [])], null, at(600)), null)
  t.match(inferServer([], ['app'], at(600)), { systemIdentifier: null, serverVersion: null, databases: ['app'] })
})
