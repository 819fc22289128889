import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { schemaVersion } from '../../src/runner/history-schema.ts'
import type { Run } from '../../src/runner/job.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { history, item, memoryLog, thrownBy } from './support.ts'

const request = { job: 'dump', lane: 'backup', params: {}, trigger: 'api', requestedBy: 'ops' } as const
const success = { state: 'succeeded', failure: null, durationMs: 1500 } as const
const failure = { code: 'disk-full', message: 'no space left', hint: 'Free some.' } as const

await t.test('a run from the queue to its verdict', async (t) => {
  const clock = new FakeClock('2026-03-01T02:00:00.250Z')
  const store = history(t.testdir({}), clock)
  t.teardown(() => store.close())
  const queued = store.insert({ ...request, params: { database: 'app' } })
  t.match(queued.id, /^20260301T020000Z-dump-[0-9a-f]{6}$/)
  t.match(queued, { state: 'queued', requestedAt: '2026-03-01T02:00:00.250Z', startedAt: null, finishedAt: null })
  t.match(queued, { params: { database: 'app' }, trigger: 'api', requestedBy: 'ops', progress: null, items: [] })

  await clock.advance(1000)
  t.equal(store.claim(queued.id), 'claimed')
  t.equal(store.claim(queued.id), 'gone', 'once only')
  t.match(store.get(queued.id), { state: 'running', startedAt: '2026-03-01T02:00:01.250Z' })
  t.match(store.totals('dump'), { runs: 0, lastStartAt: new Date('2026-03-01T02:00:01.250Z') })

  store.saveProgress(queued.id, { done: 1, total: 2, unit: 'tables' })
  t.ok(store.item(queued.id, item('app', { backupId: 'b1' })))
  t.ok(store.item(queued.id, item('other', { outcome: 'failed', failure })))
  await clock.advance(1500)
  const finished = store.finish(queued.id, 'running', success)
  t.match(finished, { state: 'succeeded', finishedAt: '2026-03-01T02:00:02.750Z', progress: { done: 1 } })
  t.same(
    finished?.items.map(({ database }) => database),
    ['app', 'other'],
  )
  t.same(store.get(queued.id), finished)
  t.same(store.totals('dump'), {
    runs: 1,
    failures: 0,
    lastStartAt: new Date('2026-03-01T02:00:01.250Z'),
    lastSuccessAt: new Date('2026-03-01T02:00:02.750Z'),
    lastDurationSeconds: 1.5,
  })
  t.same(store.totals('verify'), {
    runs: 0,
    failures: 0,
    lastStartAt: null,
    lastSuccessAt: null,
    lastDurationSeconds: null,
  })

  t.equal(store.finish(queued.id, 'running', { ...success, state: 'failed', failure }), null, 'one verdict')
  t.notOk(store.item(queued.id, item('late')), 'nothing after the verdict')
  store.saveProgress(queued.id, { done: 9, total: 9, unit: 'tables' })
  t.same(store.get(queued.id), finished)
  t.equal(store.totals('dump').runs, 1)
})

await t.test('a lane is taken until it is released, verdict or not', async (t) => {
  const store = history(t.testdir({}), new FakeClock())
  t.teardown(() => store.close())
  const [first, second, other] = [
    store.insert({ ...request, params: { database: 'a' } }),
    store.insert({ ...request, params: { database: 'b' } }),
    store.insert({ ...request, job: 'verify', lane: 'verify' }),
  ]
  t.equal(store.claim(first.id), 'claimed')
  t.equal(store.claim(second.id), 'busy')
  t.equal(store.claim(other.id), 'claimed')
  store.finish(first.id, 'running', { ...success, isStuck: true })
  t.equal(store.claim(second.id), 'busy')
  store.release(second.id)
  t.equal(store.claim(second.id), 'busy', 'only its holder can release it')
  store.release(first.id)
  t.equal(store.claim(second.id), 'claimed')
  const third = store.insert({ ...request, params: { database: 'c' } })
  store.finish(second.id, 'running', success)
  t.equal(store.claim(third.id), 'claimed', 'a verdict frees the lane')
  t.equal(store.claim('20260301T020000Z-dump-000000'), 'gone')
})

await t.test('equal params are equal in any order; one equal run at a time', async (t) => {
  const store = history(t.testdir({}), new FakeClock())
  t.teardown(() => store.close())
  const first = store.insert({ ...request, params: { level: 'data', database: 'a' } })
  const error = thrownBy(() => store.insert({ ...request, params: { database: 'a', level: 'data' } }))
  t.match(error, { name: 'LifeboatError', code: 'conflict', details: { runId: first.id } })
  store.insert({ ...request, params: { database: 'a' } })
  store.insert({ ...request, params: { database: 'a', level: null } })
  store.insert({ ...request, params: { database: 'a', level: true } })
  store.insert({ ...request, params: { database: 'a', level: 'true' } })
  store.insert({ ...request, job: 'verify', params: { database: 'a', level: 'data' } })
  store.finish(first.id, 'queued', { state: 'cancelled', failure: null, durationMs: null })
  t.not(store.insert({ ...request, params: { database: 'a', level: 'data' } }).id, first.id)
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, undefined, {}, [], 1n]) {
    const params = { value } as unknown as Run['params']
    t.throws(() => store.insert({ ...request, params }), { code: 'usage-invalid' })
  }
})

await t.test('hostile strings come back as they were', async (t) => {
  const directory = t.testdir({})
  const hostile = [
    `'; drop table runs; --`,
    '"quoted" \\ back',
    'line\nbreak\r\n\ttab',
    'nul\u0000inside',
    '\u0000',
    '',
    '-leading-dash',
    'ünïcödé 数据库 🛟',
    '\ud800 lone surrogate',
    '{"json":true}',
    '__proto__',
    '%s %d ?1 :name',
    'x'.repeat(1_000_000),
  ]
  const store = history(directory, new FakeClock())
  const ids = hostile.map((text) => {
    const run = store.insert({ ...request, params: { database: text, [text]: 1 }, requestedBy: text })
    store.claim(run.id)
    store.saveProgress(run.id, { done: 1, total: null, unit: text, message: text })
    store.item(run.id, item(text, { repository: text, failure: { code: 'unexpected', message: text } }))
    store.finish(run.id, 'running', { state: 'failed', failure: { code: 'unexpected', message: text }, durationMs: 0 })
    return run.id
  })
  store.close()
  const again = history(directory, new FakeClock())
  t.teardown(() => again.close())
  for (const [index, text] of hostile.entries()) {
    const run = again.get(ids[index] ?? '')
    t.same(
      run?.params,
      Object.fromEntries(Object.entries({ database: text, [text]: 1 })),
      JSON.stringify(text.slice(0, 20)),
    )
    t.equal(run?.requestedBy, text)
    t.equal(run?.failure?.message, text)
    t.equal(run?.progress?.message, text)
    t.equal(run?.items[0]?.database, text)
    t.equal(run?.items[0]?.failure?.message, text)
  }
  t.equal(again.get(`' or 1=1 --`), null)
  t.throws(() => again.list({ before: `' or 1=1 --` }), { code: 'usage-invalid' })
})

await t.test('list: newest first, by page, by job and state', async (t) => {
  const clock = new FakeClock()
  const store = history(t.testdir({}), clock)
  t.teardown(() => store.close())
  const ids: string[] = []
  for (let index = 0; index < 25; index += 1) {
    const job = index % 5 === 0 ? 'verify' : 'dump'
    ids.unshift(store.insert({ ...request, job, params: { index } }).id)
    // Set back each time: the order is that of the requests, not that of the clock.
    clock.jump(new Date(clock.now().getTime() - 3_600_000))
  }
  const listed = (runs: readonly Run[]) => runs.map(({ id }) => id)
  t.same(listed(store.list()), ids)
  const pages: string[] = []
  for (
    let page = store.list({ limit: 10 });
    page.length > 0;
    page = store.list({ limit: 10, before: pages.at(-1) ?? '' })
  ) {
    t.ok(page.length <= 10)
    pages.push(...listed(page))
  }
  t.same(pages, ids)
  t.equal(store.list({ job: 'verify' }).length, 5)
  t.equal(store.list({ job: 'verify', before: ids[10] ?? '' }).length, 3)
  store.claim(ids[0] ?? '')
  t.same(listed(store.list({ state: 'running' })), [ids[0]])
  t.same(listed(store.list({ state: 'running', job: 'dump' })), [ids[0]])
  t.same(listed(store.list({ state: 'running', job: 'verify' })), [])
  t.equal(store.list({ limit: 0 }).length, 1)
  t.equal(store.list({ limit: -5 }).length, 1)
  t.equal(store.list({ limit: 1e9 }).length, 25)
  t.same(store.list({ before: '20200101T000000Z-dump-abcdef' }), [], 'a run that is not there (any more)')
})

await t.test('pruning takes runs and items, never from a counter or from what is unfinished', async (t) => {
  const directory = t.testdir({})
  const clock = new FakeClock()
  let store = history(directory, clock, { keepRuns: 10 })
  const waiting = store.insert({ ...request, params: { database: 'waiting' } })
  const finish = (index: number) => {
    const run = store.insert({ ...request, params: { index } })
    store.claim(run.id)
    store.item(run.id, item('app', { outcome: 'failed', failure }))
    const state = index % 3 === 0 ? 'failed' : 'succeeded'
    const finished = store.finish(run.id, 'running', {
      state,
      failure: state === 'failed' ? failure : null,
      durationMs: 1,
    })
    return finished
  }
  let [runs, failures] = [0, 0]
  for (let index = 0; index < 50; index += 1) {
    finish(index)
    if (index === 25) {
      store.close()
      store = history(directory, clock, { keepRuns: 10 })
    }
    const totals = store.totals('dump')
    t.ok(totals.runs === runs + 1 && totals.failures >= failures, `after run ${index}`)
    ;({ runs, failures } = totals)
  }
  t.teardown(() => store.close())
  t.equal(runs, 50)
  t.equal(failures, 17)
  t.equal(store.list({ limit: 1000 }).length, 11, 'ten, and the one that waits')
  t.equal(store.get(waiting.id)?.state, 'queued')
  t.match(store.backupFailures(), [{ backupType: 'dump', database: 'app' }], 'longer than its run')
  const db = new DatabaseSync(`${directory}/lifeboat.db`, { readOnly: true })
  t.equal(db.prepare('select count(*) n from items').get()?.n, 10)
  db.close()
  t.equal(
    store.finish(waiting.id, 'queued', { ...success, durationMs: null })?.state,
    'succeeded',
    'pruned at once, but said',
  )
  t.equal(store.get(waiting.id), null)
  t.equal(store.totals('dump').runs, 51)
})

await t.test('backup failures: the newest attempt of each database', async (t) => {
  const clock = new FakeClock('2026-03-01T02:00:00Z')
  const store = history(t.testdir({}), clock)
  t.teardown(() => store.close())
  const run = (
    more: object,
    items: readonly ReturnType<typeof item>[],
    state: 'succeeded' | 'failed' | 'cancelled',
  ) => {
    const { id } = store.insert({ ...request, ...more })
    store.claim(id)
    for (const one of items) store.item(id, one)
    store.finish(id, 'running', { state, failure: state === 'succeeded' ? null : failure, durationMs: 1 })
  }
  const found = () =>
    store.backupFailures().map(({ database, at, failure }) => [database, at.toISOString(), failure.message])
  const bad = (database: string, message: string, finishedAt = '2026-03-01T02:00:00.000Z') =>
    item(database, { outcome: 'failed', failure: { code: 'program-failed', message }, finishedAt })

  run({}, [item('good'), bad('bad', 'first'), bad('worse', 'only')], 'failed')
  t.same(found(), [
    ['bad', '2026-03-01T02:00:00.000Z', 'first'],
    ['worse', '2026-03-01T02:00:00.000Z', 'only'],
  ])
  run({}, [bad('bad', 'second', '2026-02-01T00:00:00.000Z')], 'failed')
  t.same(found()[0], ['bad', '2026-02-01T00:00:00.000Z', 'second'], 'the last attempt, though the clock went back')
  run({}, [item('bad')], 'succeeded')
  t.equal(found().length, 2, 'a success takes nothing back')
  await clock.advance(1000)
  run({ params: { database: 'named' } }, [], 'failed')
  t.same(found()[1], ['named', '2026-03-01T02:00:01.000Z', 'no space left'], 'by its params')
  run({ params: { database: 'stopped' } }, [], 'cancelled')
  run(
    { params: { database: 'stopped' } },
    [item('stopped', { outcome: 'failed', failure: { code: 'cancelled', message: '' } })],
    'cancelled',
  )
  run({ params: { database: 'fine' } }, [item('fine')], 'failed')
  run({ job: 'verify', params: { database: 'verified' } }, [bad('verified', 'not a backup')], 'failed')
  run({ job: 'restore', params: { database: 'restored' } }, [], 'failed')
  t.equal(found().length, 3)
})

await t.test('a backup run that failed before it knew the databases failed for each', async (t) => {
  const clock = new FakeClock('2026-03-01T02:00:00Z')
  const databases = (facts: { fact(name: string): string | null }) => (facts.fact('known') ?? '').split(',')
  const store = history(t.testdir({}), clock, { databases })
  t.teardown(() => store.close())
  store.keepFact('known', 'app,crm')
  const run = (more: object, items: readonly ReturnType<typeof item>[], state: 'failed' | 'cancelled' = 'failed') => {
    const { id } = store.insert({ ...request, params: { database: null }, ...more })
    store.claim(id)
    for (const one of items) store.item(id, one)
    store.finish(id, 'running', { state, failure, durationMs: 1 })
  }
  const found = () => store.backupFailures().map(({ database, at }) => [database, at.toISOString()])
  run({}, [], 'cancelled')
  run({ job: 'verify' }, [])
  run({}, [item('app')])
  t.same(found(), [], 'cancelled, no backup, or with a word on what became of each')
  run({}, [])
  const all = [
    ['app', '2026-03-01T02:00:00.000Z'],
    ['crm', '2026-03-01T02:00:00.000Z'],
  ]
  t.same(found(), all)
  await clock.advance(1000)
  run({ params: { database: 'crm' } }, [])
  t.same(found(), [all[0], ['crm', '2026-03-01T02:00:01.000Z']], 'one alone')
})

await t.test('facts are kept, the newest of each name', async (t) => {
  const directory = t.testdir({})
  const store = history(directory, new FakeClock())
  t.equal(store.fact('a'), null)
  store.keepFact('a', 'old')
  store.keepFact('a', 'new\n"')
  store.keepFact('b', '')
  store.close()
  const again = history(directory, new FakeClock())
  t.teardown(() => again.close())
  t.equal(again.fact('a'), 'new\n"')
  t.equal(again.fact('b'), '')
})

await t.test('names of databases that never existed do not pile up', async (t) => {
  const clock = new FakeClock()
  const store = history(t.testdir({}), clock, { keepRuns: 5 })
  t.teardown(() => store.close())
  for (let index = 0; index < 20; index += 1) {
    await clock.advance(1000)
    const { id } = store.insert({ ...request, params: { database: `nonsense ${index}` } })
    store.claim(id)
    store.finish(id, 'running', { state: 'failed', failure, durationMs: 1 })
  }
  t.equal(store.backupFailures().length, 5)
  t.ok(store.backupFailures().some(({ database }) => database === 'nonsense 19'))
})

await t.test('the file: its mode, its journal, its directory', async (t) => {
  const directory = `${t.testdir({})}/state/deep`
  const store = history(directory, new FakeClock())
  store.insert(request)
  t.equal(statSync(`${directory}/lifeboat.db`).mode & 0o777, 0o600)
  t.equal(statSync(`${directory}/lifeboat.db-wal`).mode & 0o777, 0o600)
  const db = new DatabaseSync(`${directory}/lifeboat.db`)
  t.equal(db.prepare('pragma journal_mode').get()?.journal_mode, 'wal')
  t.equal(db.prepare('pragma user_version').get()?.user_version, schemaVersion)
  db.close()
  store.close()
  t.throws(() => store.get('x'), { code: 'storage-failed' }, 'closed')
})

await t.test('a corrupt file is set aside and a new one begun', async (t) => {
  const clock = new FakeClock('2026-03-01T02:03:04Z')
  const directory = t.testdir({})
  const file = `${directory}/lifeboat.db`
  const good = history(directory, clock)
  for (let index = 0; index < 200; index += 1) good.insert({ ...request, params: { index } })
  good.close()
  const bytes = readFileSync(file)

  const damages: [string, Buffer][] = [
    ['not a database at all', Buffer.from('hello '.repeat(2000))],
    ['cut in half', bytes.subarray(0, Math.floor(bytes.length / 2) + 100)],
    ['a page of zeros', Buffer.concat([bytes.subarray(0, 4096), Buffer.alloc(4096), bytes.subarray(8192)])],
  ]
  for (const [index, [name, content]] of damages.entries()) {
    writeFileSync(file, content)
    writeFileSync(`${file}-wal`, 'what a crash left')
    const { log, lines } = memoryLog()
    const store = history(directory, clock, { log })
    t.same(store.list(), [], name)
    t.ok(store.insert(request))
    store.close()
    const aside = `lifeboat.db.corrupt-20260301T020304Z${index === 0 ? '' : `.${index + 1}`}`
    t.ok(readdirSync(directory).includes(aside), 'kept, none over another')
    t.same(readFileSync(`${directory}/${aside}`), content)
    t.equal(statSync(file).mode & 0o777, 0o600, 'private like the first')
    t.match(lines.at(-1), { level: 50, file, aside: `${directory}/${aside}` })
  }
})

await t.test('an empty file is a new one, and a torn write-ahead log costs nothing but itself', async (t) => {
  const directory = t.testdir({ 'lifeboat.db': '', 'lifeboat.db-wal': 'torn' })
  const store = history(directory, new FakeClock())
  t.ok(store.insert(request))
  store.close()
  t.same(readdirSync(directory), ['lifeboat.db'])
})

await t.test('a newer schema is refused and left as it is', async (t) => {
  const directory = t.testdir({})
  history(directory, new FakeClock()).close()
  const db = new DatabaseSync(`${directory}/lifeboat.db`)
  db.exec(`pragma user_version = ${schemaVersion + 1}`)
  db.close()
  const before = readFileSync(`${directory}/lifeboat.db`)
  const error = thrownBy(() => history(directory, new FakeClock()))
  t.match(error, { code: 'storage-failed', message: /newer/, hint: /version of Lifeboat/ })
  t.same(readFileSync(`${directory}/lifeboat.db`), before)
  t.same(readdirSync(directory), ['lifeboat.db'])
})

await t.test('what is not permitted is an error with a hint, and nothing is set aside', async (t) => {
  const directory = t.testdir({ state: {}, file: 'not a directory', taken: { 'lifeboat.db': {} } })
  const refused = (path: string) => {
    const error = thrownBy(() => history(path, new FakeClock()))
    t.ok(error instanceof LifeboatError, path)
    t.match(error, { code: 'storage-failed', hint: /Let the user that runs Lifeboat own and write/ }, path)
  }
  refused(`${directory}/file`)
  refused(`${directory}/taken`)
  t.same(readdirSync(`${directory}/taken`), ['lifeboat.db'])

  // Root may do anything: be somebody else for a moment. All of it happens within one synchronous call.
  const asNobody = (action: () => void) => {
    if (process.geteuid?.() !== 0) return action()
    process.seteuid?.(65534)
    try {
      action()
    } finally {
      process.seteuid?.(0)
    }
  }
  chmodSync(`${directory}/state`, 0o555)
  asNobody(() => refused(`${directory}/state`))
  chmodSync(`${directory}/state`, 0o755)
  history(`${directory}/state`, new FakeClock()).close()
  chmodSync(`${directory}/state/lifeboat.db`, 0o444)
  chmodSync(`${directory}/state`, 0o777)
  asNobody(() => refused(`${directory}/state`))
  t.match(readdirSync(`${directory}/state`), ['lifeboat.db'])
})

await t.test('ten thousand runs: the questions of every refresh stay cheap', async (t) => {
  const directory = t.testdir({})
  history(directory, new FakeClock()).close()
  const db = new DatabaseSync(`${directory}/lifeboat.db`)
  db.exec(`with recursive series (value) as (select 1 union all select value + 1 from series where value < 10000)
           insert into runs (seq, id, job, lane, params, trigger, requested_by, state, requested_at, pid, process_start, boot_id)
           select value, 'id' || value, 'dump', 'backup', value, 'api', 'null', 'succeeded', '', 1, '', '' from series`)
  const plans = [
    `select * from runs where job = 'dump' and state = 'running' order by seq desc limit 1`,
    `select pid from runs where state in ('queued', 'running')`,
    `select * from runs where seq < (select seq from runs where id = 'x') order by seq desc limit 1`,
    `select id from runs where job = 'a' and params = 'b' and state in ('queued', 'running')`,
    `delete from runs where state not in ('queued', 'running') and seq <= (select max(seq) from runs) - 10`,
  ]
  for (const sql of plans) {
    const plan = db
      .prepare(`explain query plan ${sql}`)
      .all()
      .map((row) => String(row.detail))
    t.notOk(
      plan.some((step) => /^SCAN runs/.test(step)),
      `${sql}\n${plan.join('\n')}`,
    )
  }
  db.close()
})

await t.test('a process of another container lives for as long as it shows so', async (t) => {
  const directory = t.testdir({})
  const clock = new FakeClock('2026-03-01T02:00:00Z')
  const [other, own] = [history(directory, clock), history(directory, clock)]
  t.teardown(() => [other, own].map((store) => store.close()))
  const [running, queued] = [other.insert(request), other.insert({ ...request, params: { database: 'app' } })]
  other.claim(running.id)
  const db = new DatabaseSync(`${directory}/lifeboat.db`)
  t.teardown(() => db.close())
  // As another container's process: its number is nobody's here, or somebody else's.
  const moved = { pid: 2 ** 22 + 1, namespace: 'pid:[1]' }
  for (const table of ['runs', 'lanes', 'owners'])
    db.prepare(`update ${table} set pid = ?, pid_namespace = ?`).run(moved.pid, moved.namespace)
  t.same(own.sweep(), [], 'its number is not looked up here')
  const mine = own.insert({ ...request, params: { database: 'mine' } })
  t.equal(own.claim(mine.id), 'busy')

  await clock.advance(299_000)
  own.heartbeat()
  t.same(own.sweep(), [])
  db.prepare('update owners set beat_at = ? where pid = ?').run(clock.now().toISOString(), moved.pid)
  await clock.advance(300_000)
  t.same(own.sweep(), [], 'it has shown itself in between')
  await clock.advance(2_000)
  t.match(own.sweep(), [
    { id: running.id, state: 'failed', failure: { code: 'interrupted' } },
    { id: queued.id, state: 'failed', failure: { code: 'interrupted' } },
  ])
  t.equal(own.claim(mine.id), 'claimed')
  own.heartbeat()
  t.match(db.prepare('select pid, beat_at from owners').all(), [
    { pid: process.pid, beat_at: clock.now().toISOString() },
  ])
  own.finish(mine.id, 'running', success)
  await clock.advance(60_000)
  own.heartbeat()
  t.notMatch(
    db.prepare('select beat_at from owners').get(),
    { beat_at: clock.now().toISOString() },
    'idle, it writes nothing',
  )
})
