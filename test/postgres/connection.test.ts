import { chown, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { passingCause } from '../../src/domain/transient.ts'
import {
  type ConnectionSource,
  connect,
  type Session,
  socketSource,
  withSession,
} from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { serverFailure } from '../../src/postgres/server-failure.ts'
import { type Cluster, freePort, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

const database = 'postgres'

// Whatever a server does to us, no promise of ours may be left to reject alone: tap fails the file when one does.
process.on('unhandledRejection', (reason) => t.fail('unhandled rejection', { reason }))

/** A TCP server that treats its clients as told. */
async function tcpServer(t: Test, onConnection: (socket: Socket) => void = () => {}): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    onConnection(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** A self-made authority, and a server certificate of it for `localhost` alone. */
async function certificates(t: Test): Promise<{ ca: string; settings: Record<string, string> }> {
  const folder = await scratchDirectory(t)
  const openssl = (...args: string[]) => runProgram({ program: 'openssl', args, cwd: folder })
  const [ca, key, cert] = ['ca.pem', 'server.key', 'server.pem'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const caKey = join(folder, 'ca.key')
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl('req', '-x509', ...newKey, '-keyout', caKey, '-out', ca, '-days', '2', '-subj', '/CN=test authority')
  await openssl('req', ...newKey, '-keyout', key, '-out', `${cert}.csr`, '-subj', '/CN=localhost')
  await writeFile(join(folder, 'ext'), 'subjectAltName=DNS:localhost\n')
  await openssl(
    ...['x509', '-req', '-in', `${cert}.csr`, '-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2'],
    ...['-extfile', join(folder, 'ext'), '-out', cert],
  )
  const user = await serverOsUser('postgres')
  if (user !== null) await chown(key, user.uid, user.gid)
  return { ca, settings: { ssl: 'on', ssl_cert_file: cert, ssl_key_file: key } }
}

const isEncrypted = (source: ConnectionSource) =>
  withSession(source, { database }, async (session) => {
    const [row] = await session.query<{ ssl: boolean }>('select ssl from pg_stat_ssl where pid = pg_backend_pid()')
    return row?.ssl
  })

/** Waits until some backend runs the statement. */
async function running(cluster: Cluster, text: string): Promise<number> {
  for (;;) {
    const [row] = await cluster.sql<{ pid: number }>(
      `select pid from pg_stat_activity where query like '${text}%' and state = 'active' and pid <> pg_backend_pid()`,
    )
    if (row !== undefined) return row.pid
  }
}

t.test('PostgreSQL 15, without SSL', async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  await cluster.sql(`create role r login password 'right'; create role nobody login`)
  const r = cluster.as('r', 'right')

  await t.test('what keeps us out', async (t) => {
    const code = (source: ConnectionSource, name = database) => connect(source, { database: name })
    await t.rejects(code(cluster.as('r', 'wrong')), { code: 'server-authentication', hint: /passwordFile/ })
    await t.rejects(code(cluster.as('no such role', 'x')), { code: 'server-authentication' })
    await t.rejects(code({ ...r, password: null }), { code: 'server-authentication', message: /asks for a password/ })
    await t.rejects(code(cluster.as('r', '')), { code: 'server-authentication' })
    await t.rejects(code(r, 'no such "database"'), { code: 'database-missing' })
    await t.rejects(code({ ...r, port: await freePort() }), { code: 'server-unreachable', hint: /postgres\.port/ })
    await t.rejects(code({ ...r, host: '/nowhere' }), { code: 'server-unreachable' })
    await t.rejects(code({ ...r, host: 'host.invalid' }), { code: 'server-unreachable' })
    await t.rejects(code({ ...r, sslMode: 'require' }), { code: 'server-unreachable', message: /SSL/ })
    const passing = (source: ConnectionSource) => code(source).then(() => 'connected', passingCause)
    t.equal(await passing({ ...r, sslMode: 'require' }), null, 'it will not learn TLS')
    t.ok(await passing({ ...r, port: await freePort() }))
    t.ok(await passing({ ...r, host: '/nowhere' }))
    t.equal(await isEncrypted({ ...r, sslMode: 'prefer' }), false)
    await cluster.sql('alter role nobody connection limit 0')
    await t.rejects(code(cluster.as('nobody')), { code: 'server-unreachable' }, 'too many connections')
    await cluster.sql(`alter role r valid until '2001-01-01'`)
    await t.rejects(code(r), { code: 'server-authentication' })
    await cluster.sql(`alter role r valid until 'infinity'`)
  })

  await t.test('a password is asked for anew each time', async (t) => {
    const words = ['wrong', 'right']
    const source = { ...r, password: async () => words.shift() ?? '' }
    await t.rejects(connect(source, { database }), { code: 'server-authentication' })
    await (await connect(source, { database })).close()
    const broken = async (): Promise<string> => {
      throw new Error('the secret is gone')
    }
    await t.rejects(connect({ ...r, password: broken }, { database }), { message: 'the secret is gone' })
  })

  await t.test('a server that does not answer', async (t) => {
    const port = await tcpServer(t)
    for (const sslMode of ['disable', 'prefer', 'require'] as const) {
      const source = { ...r, port, connectTimeoutMs: 300, sslMode }
      const started = performance.now()
      await t.rejects(connect(source, { database }), { code: 'server-unreachable' })
      t.ok(performance.now() - started < 550, `${sslMode}: one time limit, not two`)
    }
    const abort = new AbortController()
    const waiting = connect({ ...r, port, connectTimeoutMs: 60_000 }, { database, signal: abort.signal })
    setTimeout(() => abort.abort(new Error('enough')), 20)
    await t.rejects(waiting, { message: 'enough' })
    await t.rejects(connect(r, { database, signal: abort.signal }), { message: 'enough' }, 'aborted before')
  })

  await t.test('a server that talks nonsense, or hangs up', async (t) => {
    const web = await tcpServer(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    const rude = await tcpServer(t, (socket) => socket.destroy())
    for (const port of [web, rude]) {
      for (const sslMode of ['disable', 'prefer', 'require'] as const) {
        const source = { ...r, port, connectTimeoutMs: 300, sslMode }
        await t.rejects(connect(source, { database }), { code: 'server-unreachable' })
      }
    }
  })

  await t.test('a server that hangs at the end does not keep us', async (t) => {
    const upstream = { host: '127.0.0.1', port: cluster.source.port }
    let frozen = false
    const port = await tcpServer(t, (socket) => {
      const server = new (socket.constructor as typeof Socket)()
      server.connect(upstream)
      t.teardown(() => server.destroy())
      server.on('error', () => {})
      socket.on('data', (chunk) => frozen || server.write(chunk))
      server.on('data', (chunk) => frozen || socket.write(chunk))
    })
    const source = { ...r, port, connectTimeoutMs: 300 }
    const session = await connect(source, { database })
    const other = await connect({ ...source, connectTimeoutMs: 60_000 }, { database, signal: AbortSignal.timeout(500) })
    frozen = true
    await session.close()
    await other.close()
    t.pass()
  })

  await t.test('nothing of PG* in our environment reaches the session', async (t) => {
    const saved = { ...process.env }
    t.teardown(() => {
      process.env = saved
    })
    Object.assign(process.env, {
      PGHOST: 'nowhere',
      PGPORT: '1',
      PGUSER: 'x',
      PGDATABASE: 'x',
      PGPASSWORD: 'right',
      PGOPTIONS: '-c work_mem=77MB',
      PGCLIENTENCODING: 'LATIN1',
      PGSSLMODE: 'require',
      PGAPPNAME: 'x',
    })
    const rows = await withSession(cluster.as('r', 'right'), { database }, (session) =>
      session.query(`select current_user as u, current_setting('work_mem') as m, current_setting('application_name') as a,
        current_setting('client_encoding') as e, 'ä' as t`),
    )
    t.same(rows, [{ u: 'r', m: '4MB', a: 'lifeboat', e: 'UTF8', t: 'ä' }])
    await t.rejects(connect({ ...r, password: null }, { database }), { code: 'server-authentication' })
  })

  await t.test('errors of the server', async (t) => {
    const session = await connect(cluster.source, { database })
    await t.rejects(session.query('selec'), { code: 'server-error', details: { sqlState: '42601' } })
    await session.query('create temp table secret (name text unique); insert into secret values ($$visible?$$)')
    const duplicate: unknown = await session.query(`insert into secret values ('visible?')`).catch((error) => error)
    t.notMatch(JSON.stringify(duplicate), /visible\?/, 'a DETAIL holds row data')
    t.same(await session.query('select $1::int8 as n, $2::text as t', [9007199254740993n, null]), [
      { n: '9007199254740993', t: null },
    ])
    await session.close()
    await t.rejects(session.query('select 1'), { code: 'server-unreachable' })
    await session.close()
    const role = await connect(cluster.as('r', 'right'), { database })
    await t.rejects(role.query('select * from pg_authid'), {
      code: 'server-error',
      details: { sqlState: '42501' },
      hint: /lifeboat check/,
    })
    await role.close()
    t.match(serverFailure({}), { code: 'server-unreachable' })
  })

  await t.test('settings of the database and of the role do not reach us', async (t) => {
    const bad = {
      default_transaction_read_only: 'on',
      statement_timeout: '1',
      lock_timeout: '1',
      idle_in_transaction_session_timeout: '1',
    }
    await cluster.createDatabase('bad')
    for (const [name, value] of Object.entries(bad)) {
      await cluster.sql(`alter database bad set ${name} = '${value}'; alter role r set ${name} = '${value}'`)
    }
    await withSession(r, { database: 'bad' }, async (session) => {
      await session.query('begin')
      await session.query('create temp table x (i int)')
      await session.query('select pg_sleep(0.05)')
      const rows = await session.query<{ value: string }>(
        `select current_setting(name) as value from unnest($1::text[]) name`,
        [Object.keys(bad)],
      )
      t.same(
        rows.map(({ value }) => value),
        ['off', '0', '0', '0'],
      )
    })
  })

  await t.test('sessions that are lost', async (t) => lostSessions(t, cluster))
})

async function lostSessions(t: Test, cluster: Cluster): Promise<void> {
  const lostTo = async (
    t: Test,
    how: (pid: number, session: Session) => Promise<unknown>,
    expected: { code: string; details?: object },
  ) => {
    const idle = await connect(cluster.source, { database })
    const busy = await connect(cluster.source, { database })
    const [row] = await idle.query<{ pid: number }>('select pg_backend_pid() as pid')
    const query = busy.query('select pg_sleep(60), 2')
    query.catch(() => {})
    const pid = await running(cluster, 'select pg_sleep(60), 2')
    await how(row?.pid ?? 0, idle)
    await how(pid, busy)
    await t.rejects(query, expected)
    await t.rejects(idle.lost, { code: 'server-unreachable' })
    await t.rejects(busy.lost, { code: 'server-unreachable' })
    await t.rejects(idle.query('select 1'), { code: 'server-unreachable' })
    await Promise.all([idle.close(), busy.close()])
  }

  await t.test('to an administrator', (t) =>
    lostTo(t, (pid) => cluster.sql(`select pg_terminate_backend(${pid}, 5000)`), {
      code: 'server-unreachable',
      details: { sqlState: '57P01' },
    }),
  )
  await t.test('to kill -9, which takes the server down', async (t) => {
    let first = true
    await lostTo(
      t,
      async (pid) => {
        if (first) process.kill(pid, 'SIGKILL')
        first = false
      },
      { code: 'server-unreachable' },
    )
  })
  await t.test('a query that is cancelled is no lost session', async (t) => {
    const session = await connectAgain(cluster)
    const query = session.query('select pg_sleep(60), 3')
    query.catch(() => {})
    await cluster.sql(`select pg_cancel_backend(${await running(cluster, 'select pg_sleep(60), 3')})`)
    await t.rejects(query, { code: 'server-error', details: { sqlState: '57014' } })
    t.same(await session.query('select 1 as one'), [{ one: 1 }])
    await session.close()
  })
  await t.test('to an abort', async (t) => {
    const abort = new AbortController()
    const session = await connect(cluster.source, { database, signal: abort.signal })
    const query = session.query('select pg_sleep(60), 4')
    query.catch(() => {})
    await running(cluster, 'select pg_sleep(60), 4')
    abort.abort(new Error('enough'))
    await t.rejects(query, { message: 'enough' })
    await t.rejects(session.lost, { message: 'enough' })
    await t.rejects(session.query('select 1'), { message: 'enough' })
    await session.close()
    await t.rejects(
      withSession(cluster.source, { database, signal: abort.signal }, async () => 1),
      { message: 'enough' },
    )
    const { signal } = new AbortController()
    for (let index = 0; index < 12; index += 1) {
      await withSession(cluster.source, { database, signal }, (one) => one.query('select 1'))
    }
  })
  await t.test('to a server that is stopped, and starts again', async (t) => {
    for (const mode of ['fast', 'immediate'] as const) {
      const session = await connect(cluster.source, { database })
      const query = session.query('select pg_sleep(60), 5')
      query.catch(() => {})
      await running(cluster, 'select pg_sleep(60), 5')
      await cluster.server.stop(mode)
      await t.rejects(query, { code: 'server-unreachable' }, mode)
      await t.rejects(session.lost, { code: 'server-unreachable' }, mode)
      await t.rejects(connect(cluster.source, { database }), { code: 'server-unreachable' }, mode)
      await session.close()
      await cluster.server.start()
      t.same(await cluster.sql('select 1 as one'), [{ one: 1 }], mode)
    }
  })
}

/** A server that restarts after a crash refuses for a moment. */
async function connectAgain(cluster: Cluster): Promise<Session> {
  for (;;) {
    try {
      return await connect(cluster.source, { database })
    } catch (error) {
      if ((error as { code?: string }).code !== 'server-unreachable') throw error
    }
  }
}

t.test('PostgreSQL 17, with SSL', async (t) => {
  const { ca, settings } = await certificates(t)
  const cluster = await startCluster(t, {
    major: 17,
    tcp: true,
    settings,
    hba: ['hostssl all plain all reject', 'hostnossl all secret all reject'],
  })
  await cluster.sql(
    `create role r login password 'p'; create role plain login password 'p'; create role secret login password 'p'`,
  )
  const source = (sslMode: ConnectionSource['sslMode'], more: Partial<ConnectionSource> = {}) => ({
    ...cluster.as('r', 'p'),
    host: 'localhost',
    sslMode,
    ...more,
  })

  t.equal(await isEncrypted(source('disable')), false)
  t.equal(await isEncrypted(source('prefer')), true)
  t.equal(await isEncrypted(source('require')), true)
  t.equal(await isEncrypted(source('verify-ca', { sslRootCert: ca })), true)
  t.equal(
    await isEncrypted(source('verify-ca', { sslRootCert: ca, host: '127.0.0.1' })),
    true,
    'the name is not looked at',
  )
  t.equal(await isEncrypted(source('verify-full', { sslRootCert: ca })), true)
  t.equal(await isEncrypted(cluster.source), false, 'a socket needs none')
  await t.rejects(isEncrypted(source('verify-full', { sslRootCert: ca, host: '127.0.0.1' })), {
    code: 'server-unreachable',
  })
  await t.rejects(isEncrypted(source('verify-ca')), { code: 'server-unreachable' }, 'an authority nobody knows')
  await t.rejects(isEncrypted(source('verify-full')), { code: 'server-unreachable' })
  for (const wrong of [source('verify-full', { sslRootCert: ca, host: '127.0.0.1' }), source('verify-ca')]) {
    t.equal(await isEncrypted(wrong).catch(passingCause), null, 'and that will not pass')
  }
  await t.rejects(isEncrypted(source('verify-full', { sslRootCert: '/nowhere.pem' })), {
    code: 'config-invalid',
    message: /nowhere\.pem/,
  })
  t.equal(await isEncrypted(source('prefer', { user: 'plain' })), false, 'as libpq: without SSL if that is refused')
  await t.rejects(isEncrypted(source('require', { user: 'plain' })), { code: 'server-authentication' })
  await t.rejects(isEncrypted(source('disable', { user: 'secret' })), { code: 'server-authentication' })
  t.equal(await isEncrypted(source('prefer', { user: 'secret' })), true)
  await t.rejects(isEncrypted(source('prefer', { password: async () => 'wrong' })), { code: 'server-authentication' })

  await t.test('transaction_timeout of database and role', async (t) => {
    await cluster.createDatabase('bad')
    await cluster.sql(`alter database bad set transaction_timeout = 1; alter role r set transaction_timeout = 1`)
    await withSession(source('require'), { database: 'bad' }, async (session) => {
      await session.query('begin')
      await session.query('select pg_sleep(0.05)')
      t.same(await session.query(`select current_setting('transaction_timeout') as t`), [{ t: '0' }])
    })
    // Begun in one transaction with the session itself, the limit may strike before it can be lifted.
    for (let index = 0; index < 20; index += 1) {
      await withSession(source('require'), { database: 'bad' }, (session) => session.query('select pg_sleep(0.002)'))
    }
  })
})

t.test('an end that comes in one packet with the readiness is not lost', async (t) => {
  // A server of a few bytes, since a real one does this only now and then: it lets in, is ready, and throws out at once.
  const message = (type: string, body: Buffer) => {
    const length = Buffer.alloc(4)
    length.writeInt32BE(body.length + 4)
    return Buffer.concat([Buffer.from(type), length, body])
  }
  const fatal = 'SFATAL\0VFATAL\0C25P04\0Mterminating connection due to transaction timeout\0\0'
  const server = createServer((socket) => {
    socket.once('data', () => {
      socket.end(
        Buffer.concat([
          message('R', Buffer.alloc(4)),
          message('Z', Buffer.from('I')),
          message('E', Buffer.from(fatal)),
        ]),
      )
    })
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const source = { ...socketSource({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, user: 'x' }) }
  const refused = await connect(source, { database: 'x' }).catch((error: unknown) => error)
  t.match(
    refused,
    { code: 'server-error', details: { sqlState: '25P04' } },
    'the cause, which decides about a second try',
  )
})
