import fc from 'fast-check'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import {
  canReadPasswords,
  describeCluster,
  globalsVersion,
  invisibleToRole,
  listDatabases,
  selectDatabases,
} from '../../src/postgres/cluster.ts'
import { type ConnectionSource, connect, type Session, withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier } from '../../src/postgres/conninfo.ts'
import { asideName, isAsideName, suffixedName, swapDatabases } from '../../src/postgres/swap-databases.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'

const live = `live "db"; it's\n-- x`
const fresh = 'fresh'
const kept = suffixedName(live, 'before_20250101t000000z')

const marks = async (cluster: Cluster, names: readonly string[]) =>
  Promise.all(
    names.map(async (name) => ((await cluster.sql<{ m: string }>('select m from mark', name))[0] ?? { m: '' }).m),
  )

const databases = async (cluster: Cluster) =>
  cluster.sql('select datname, datallowconn, datconnlimit from pg_database order by datname')

async function prepare(cluster: Cluster): Promise<void> {
  for (const name of [live, fresh, kept])
    await cluster.sql(`drop database if exists ${quoteIdentifier(name)} with (force)`)
  await cluster.createDatabase(live, `create table mark as select 'old' as m`)
  await cluster.createDatabase(fresh, `create table mark as select 'new' as m`)
}

/** An application that reconnects as soon as it is thrown out. Notes every failure that is not a lost connection. */
function application(source: ConnectionSource, database: string) {
  let stopped = false
  let rounds = 0
  const surprises: unknown[] = []
  const done = (async () => {
    while (!stopped) {
      try {
        await withSession(source, { database }, async (session) => {
          rounds += 1
          while (!stopped) await session.query('select m, pg_sleep(0.001) from mark')
        })
      } catch (error) {
        if ((error as { code?: string }).code !== 'server-unreachable') surprises.push(error)
      }
    }
  })()
  return {
    surprises,
    rounds: () => rounds,
    stop: async () => {
      stopped = true
      await done
    },
  }
}

t.test('a cluster', async (t) => {
  const cluster = await startCluster(t, { settings: { max_prepared_transactions: '2' } })
  await t.test('swapping names', (t) => swapping(t, cluster))
  await t.test('swapping that fails changes nothing', (t) => failing(t, cluster))
  await t.test('what a cluster says of itself', (t) => facts(t, cluster))
})

async function swapping(t: Test, cluster: Cluster): Promise<void> {
  const swap = (session: Session) => swapDatabases(session, { name: live, replacement: fresh, kept })
  await prepare(cluster)
  const idle = await connect(cluster.source, { database: live })
  await withSession(cluster.source, { database: 'postgres' }, swap)
  t.same(await marks(cluster, [live, kept]), ['new', 'old'])
  await t.rejects(idle.lost, { code: 'server-unreachable' })
  await idle.close()

  await prepare(cluster)
  const apps = Array.from({ length: 3 }, () => application(cluster.source, live))
  const abroad = application(cluster.source, fresh)
  while (apps.some(({ rounds }) => rounds() === 0) || abroad.rounds() === 0) await cluster.sql('select 1')
  const before = apps.map(({ rounds }) => rounds())
  await withSession(cluster.source, { database: 'postgres' }, swap)
  t.same(await marks(cluster, [live, kept]), ['new', 'old'], 'with an application that comes back at once')
  const missing = abroad.surprises.length
  while (apps.some(({ rounds }, index) => rounds() <= (before[index] ?? 0))) await cluster.sql('select 1')
  for (const app of apps) {
    await app.stop()
    const said = app.surprises.map((error) => (error as { cause: { detail: string } }).cause.detail)
    t.ok(
      said.length <= 1 && said.every((detail) => /just been dropped or renamed/.test(detail)),
      'refused once at most',
    )
  }
  await abroad.stop()
  t.ok(abroad.surprises.length >= missing)
  t.same(
    (await databases(cluster)).filter((row) => row.datallowconn === false),
    [{ datname: 'template0', datallowconn: false, datconnlimit: -1 }],
  )
}

async function failing(t: Test, cluster: Cluster): Promise<void> {
  const swap = (names: Partial<Parameters<typeof swapDatabases>[1]>, source = cluster.source) =>
    withSession(source, { database: 'postgres' }, (session) =>
      swapDatabases(session, { name: live, replacement: fresh, kept, ...names }),
    )
  await prepare(cluster)
  await cluster.createDatabase('taken')
  const before = await databases(cluster)
  const unchanged = async (what: string) => {
    t.same(await databases(cluster), before, what)
    t.same(await marks(cluster, [live, fresh]), ['old', 'new'], what)
  }
  await t.rejects(swap({ kept: 'taken' }), { code: 'server-error', details: { sqlState: '42P04' } })
  await unchanged('the name to keep it under is taken')
  await t.rejects(swap({ replacement: 'nothing' }), { code: 'database-missing' })
  await unchanged('there is no replacement')
  await t.rejects(swap({ name: 'nothing' }), { code: 'database-missing' })
  await unchanged('there is nothing to replace')
  await cluster.sql('create role weak login')
  await t.rejects(swap({}, cluster.as('weak')), { code: 'server-error', details: { sqlState: '42501' } })
  await unchanged('no right to rename')

  const abort = new AbortController()
  await withSession(cluster.source, { database: 'postgres', signal: abort.signal }, async (session) => {
    const cutOff: Session = {
      ...session,
      query: async (text, values) => {
        if (text.includes(quoteIdentifier(fresh))) abort.abort(new Error('enough'))
        return session.query(text, values)
      },
    }
    await t.rejects(swapDatabases(cutOff, { name: live, replacement: fresh, kept }), { message: 'enough' })
  })
  await unchanged('aborted between the two renames: nobody is left shut out')

  await withSession(cluster.source, { database: fresh }, async (session) => {
    await session.query('begin')
    await session.query('create table stuck ()')
    await session.query(`prepare transaction 'it''s stuck'`)
  })
  await t.rejects(swap({}), { code: 'conflict', hint: /"it's stuck".*the restored database is kept/ })
  await withSession(cluster.source, { database: 'postgres' }, async (session) => {
    let attempts = 0
    // Stands for sessions that are back each time: waiting for them would take the server 20 seconds.
    const inUse: Session = {
      ...session,
      query: async (text, values) => {
        if (!text.includes('rename')) return session.query(text, values)
        attempts += 1
        throw new LifeboatError('server-error', 'it is being accessed', { details: { sqlState: '55006' } })
      },
    }
    await cluster.sql(`rollback prepared 'it''s stuck'`, fresh)
    const swapping = swapDatabases(inUse, { name: live, replacement: fresh, kept })
    await t.rejects(swapping, { code: 'conflict', message: 'it is being accessed', hint: /stop the application/ })
    t.equal(attempts, 4)
  })
  await unchanged('sessions and prepared transactions in the way')
  await swap({})
  t.same(await marks(cluster, [live, kept]), ['new', 'old'], 'and then it works')
}

async function facts(t: Test, cluster: Cluster): Promise<void> {
  await withSession(cluster.source, { database: 'postgres' }, async (session) => {
    const described = await describeCluster(session)
    t.match(described, { serverMajor: 15, timeline: 1, inRecovery: false, bootstrapSuperuser: 'postgres' })
    t.match(described.systemIdentifier, /^\d{19}$/, 'not rounded')
    t.match(described.serverVersion, /^15\./)
    t.ok(described.startedAt instanceof Date)

    const changes: readonly string[] = [
      'create role one',
      'alter role one login',
      'create role two in role one',
      `alter role one set work_mem = '5MB'`,
      `alter role one in database postgres set work_mem = '6MB'`,
      'drop role two',
      'drop role one',
    ]
    const seen = [await globalsVersion(session)]
    for (const change of changes) {
      await session.query(change)
      seen.push(await globalsVersion(session))
    }
    t.equal(new Set(seen).size, changes.length, 'every change shows; the last one leads back to the first')
    t.equal(seen.at(-1), seen[0])
    t.equal(await canReadPasswords(session), true)

    await session.query('create database closed allow_connections false')
    await session.query('create database a_template is_template true')
    await session.query('create database broken')
    await session.query(`update pg_database set datconnlimit = -2 where datname = 'broken'`)
    const names = (await listDatabases(session)).map(({ name }) => name)
    t.same(names, [live, kept, 'postgres', 'taken'].toSorted(), 'neither closed nor templates nor half-dropped ones')
    t.ok((await listDatabases(session)).every(({ bytes, oid }) => bytes > 1_000_000 && oid > 0))
  })
  await withSession(cluster.as('weak'), { database: 'postgres' }, async (session) => {
    t.equal(await canReadPasswords(session), false)
    t.match(await describeCluster(session), { bootstrapSuperuser: 'postgres' }, 'needs no special right')
    t.same(await invisibleToRole(session), [])
  })
  await cluster.sql(
    `create extension postgres_fdw; create server s foreign data wrapper postgres_fdw;
    create user mapping for postgres server s options (user 'x', password 'y')`,
  )
  t.match(await withSession(cluster.as('weak'), { database: 'postgres' }, invisibleToRole), [
    /options of 1 user mappings/,
  ])
  t.same(await withSession(cluster.source, { database: 'postgres' }, invisibleToRole), [])
}

t.test('selecting databases', async (t) => {
  const existing = [{ name: 'a' }, { name: `B "x"` }]
  t.same(selectDatabases(existing, null), { selected: existing, missing: [] })
  t.same(selectDatabases(existing, ['a', 'gone']), { selected: [{ name: 'a' }], missing: ['gone'] })
  t.same(selectDatabases(existing, [`b "x"`]), { selected: [], missing: [`b "x"`] }, 'case counts')
  t.same(selectDatabases(existing, []), { selected: [], missing: [] })
})

t.test('a name with a suffix fits 63 bytes and splits no character', async (t) => {
  t.equal(suffixedName('app', 'restored_x'), 'app_restored_x')
  t.equal(suffixedName('x'.repeat(63), 'before'), `${'x'.repeat(56)}_before`)
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 70 }),
      fc.string({ unit: 'grapheme-ascii', maxLength: 70 }),
      (name, suffix) => {
        const made = suffixedName(name, suffix)
        t.ok(made.endsWith(`_${suffix}`))
        t.ok(Buffer.byteLength(made) <= Math.max(63, suffix.length + 1))
        const cut = made.slice(0, -suffix.length - 1)
        t.ok(name.startsWith(cut))
        t.equal(Buffer.from(cut).toString(), cut, 'no half of a pair')
      },
    ),
    { numRuns: 200, seed: 4 },
  )
})

t.test('what stands aside is known by its name', async (t) => {
  const at = new Date('2026-03-01T02:00:00Z')
  t.equal(asideName('app', 'before', at), 'app_before_20260301t020000z')
  for (const name of ['app', 'x'.repeat(63), '美'.repeat(21), 'two\nlines', '']) {
    for (const what of ['before', 'restored'] as const) t.equal(isAsideName(asideName(name, what, at)), name !== '')
  }
  for (const name of [
    'app',
    'app_before',
    'app_before_20260301',
    'app_before_20260301T020000Z',
    'app_after_20260301t020000z',
  ])
    t.notOk(isAsideName(name), name)
  for (const more of ['app_before_20260301t020000z_', '_before_20260301t020000z', 'app_before_20260301t020000z\n'])
    t.notOk(isAsideName(more), more)
})
