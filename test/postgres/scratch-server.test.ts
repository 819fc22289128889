import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execPath } from 'node:process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier } from '../../src/postgres/conninfo.ts'
import { killOrphans, workMarker } from '../../src/postgres/orphans.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { removeTree, type ScratchOptions, startScratchServer } from '../../src/postgres/scratch-server.ts'
import { installationOf } from '../support/postgres.ts'
import { noSmallDisk, scratchDirectory, smallDisk } from '../support/scratch.ts'

const database = 'postgres'
const osUser = await serverOsUser('postgres')

async function start(t: Test, more: Partial<ScratchOptions> = {}) {
  const workFolder = more.workFolder ?? (await scratchDirectory(t))
  const server = await startScratchServer({
    installation: await installationOf(15),
    directory: join(workFolder, 'server'),
    osUser,
    superuser: 'postgres',
    workFolder,
    ...more,
  })
  t.teardown(() => server.remove())
  return { workFolder, server }
}

const postmasterPid = async (data: string) =>
  Number((await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')[0])
const isAlive = async (pid: number) => !/^$|\) Z /.test(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''))

/** Gives the test a directory for temporary files of its own, and a look at the socket directories in it. */
async function ownTemporaries(t: Test): Promise<() => Promise<string[]>> {
  const directory = await scratchDirectory(t)
  const saved = process.env.TMPDIR
  process.env.TMPDIR = directory
  t.teardown(() => {
    if (saved === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = saved
  })
  return async () => (await readdir(directory)).filter((name) => /^lifeboat-[A-Za-z0-9]{6}$/.test(name))
}

/** The TCP sockets that a process listens on, as /proc knows them. */
async function tcpListeners(pid: number): Promise<number> {
  const inodes = new Set<string>()
  for (const file of ['tcp', 'tcp6']) {
    for (const line of (await readFile(`/proc/net/${file}`, 'utf8')).split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/)
      if (fields[3] === '0A') inodes.add(`socket:[${fields[9]}]`)
    }
  }
  const links = (await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => ''))
  return (await Promise.all(links)).filter((link) => inodes.has(link)).length
}

for (const major of [15, 17] as const) {
  t.test(`PostgreSQL ${major}: a server for one restore`, async (t) => {
    const phases: string[] = []
    const { workFolder, server } = await start(t, {
      installation: await installationOf(major),
      onPhase: (phase) => phases.push(phase),
    })
    const pid = await postmasterPid(server.dataDirectory)
    t.same(phases, ['initdb', 'start'])
    t.equal(await tcpListeners(pid), 0, 'nobody can come over the network')
    const names = [
      'archive_mode|off',
      'listen_addresses|',
      'shared_preload_libraries|',
      'session_preload_libraries|',
      'local_preload_libraries|',
      'ssl|off',
      'autovacuum|off',
      'logging_collector|off',
      'wal_level|minimal',
      'max_wal_senders|0',
      'primary_conninfo|',
    ]
    await withSession(server.source, { database }, async (session) => {
      for (const line of names) {
        const [name = '', value] = line.split('|')
        t.same(await session.query('select current_setting($1) as v', [name]), [{ v: value }], name)
      }
      t.match(await session.query('select rolname from pg_roles where oid = 10'), [{ rolname: 'postgres' }])
    })
    const environment = await readFile(`/proc/${pid}/cmdline`, 'utf8')
    t.notMatch(environment, /password/i)
    for (const mode of ['fast', 'immediate'] as const) {
      const idle = await withSession(server.source, { database }, async (session) => {
        await server.stop(mode)
        return session.lost.catch((error: { code?: string }) => error.code)
      })
      t.equal(idle, 'server-unreachable', `${mode} does not wait for clients`)
      await server.stop(mode)
      await server.start()
      await withSession(server.source, { database }, (session) => session.query('select 1'))
    }
    const last = await postmasterPid(server.dataDirectory)
    await server.remove()
    t.notOk(await isAlive(last))
    t.same(await readdir(workFolder), [], 'nothing is left')
    await server.remove()
  })
}

t.test('bootstrap superusers of any name', async (t) => {
  for (const superuser of ['select', `it's "x"\n-D \\`, '😀'.repeat(15), 'lifeboat_rename']) {
    const { server } = await start(t, { superuser })
    const ask =
      'select current_user as u, (select rolname from pg_authid where oid = 10) as b, count(*)::int as n from pg_authid where oid >= 16384'
    t.same(await withSession(server.source, { database }, (session) => session.query(ask)), [
      { u: superuser, b: superuser, n: 0 },
    ])
    await withSession(server.source, { database }, (session) =>
      session.query(`alter role ${quoteIdentifier(superuser)} with login password 'x'; create table owned ()`),
    )
    await server.remove()
  }
})

t.test('deep, odd and unreachable directories', async (t) => {
  const socketFolders = await ownTemporaries(t)
  const folder = await scratchDirectory(t)
  const deep = join(folder, ...Array.from({ length: 12 }, (_, i) => `a rather long name ${i}`))
  for (const directory of [deep, join(folder, `it's, "odd"\nü`)]) {
    const { server } = await start(t, { directory, workFolder: folder })
    t.equal(server.dataDirectory, join(directory, 'data'))
    t.ok(Buffer.byteLength(`${server.source.host}/.s.PGSQL.65535`) <= 107)
    await withSession(server.source, { database }, (session) => session.query('select 1'))
    await server.remove()
    t.same(await socketFolders(), [], 'its socket directory is gone too')
  }

  const occupied = join(folder, 'occupied')
  await mkdir(occupied)
  await writeFile(join(occupied, 'precious'), 'x')
  await t.rejects(start(t, { directory: occupied }), { code: 'usage-invalid', message: /EEXIST/ })
  t.same(await readdir(occupied), ['precious'], 'left as it was')
  await t.rejects(start(t, { directory: join(occupied, 'precious', 'x') }), { code: 'usage-invalid' })

  await t.test('closed to the OS user', { skip: osUser === null && 'needs root' }, async (t) => {
    const closed = join(folder, 'closed')
    await mkdir(closed, { mode: 0o700 })
    await t.rejects(start(t, { directory: join(closed, 'deeper', 'server') }), {
      code: 'usage-invalid',
      message: `the OS user postgres, which runs the scratch server, cannot enter ${closed}`,
      hint: /chmod o\+x/,
    })
    t.same(await readdir(join(closed, 'deeper')), [])
    await chmod(closed, 0o711)
    await (await start(t, { directory: join(closed, 'deeper', 'server') })).server.remove()
  })
})

t.test('what fails leaves nothing behind', async (t) => {
  const socketFolders = await ownTemporaries(t)
  const folder = await scratchDirectory(t)
  const fails = async (
    t: Test,
    more: Partial<ScratchOptions>,
    expected: { code: string; message?: string | RegExp } | { message: string },
  ) => {
    await t.rejects(start(t, { workFolder: folder, ...more }), expected)
    t.same(await readdir(more.directory === undefined ? folder : dirname(more.directory)), [])
    t.same(await socketFolders(), [])
    t.same(await killOrphans(folder), [], 'no process either')
  }
  await fails(t, { initdbArgs: ['--locale=xx_NOWHERE'] }, { code: 'program-failed', message: /initdb.*locale/ })
  await fails(
    t,
    { settings: { max_connections: 'many' } },
    { code: 'program-failed', message: /did not start.*max_connections/ },
  )
  await fails(
    t,
    { settings: { shared_preload_libraries: 'no_such_library' } },
    { code: 'program-failed', message: /no_such_library/ },
  )
  const installation = await installationOf(15)
  await fails(t, { installation: { ...installation, directory: '/nowhere' } }, { code: 'program-missing' })
  for (const phase of ['initdb', 'start']) {
    const abort = new AbortController()
    const onPhase = (current: string) => {
      if (current === phase) setTimeout(() => abort.abort(new Error('enough')), 20)
    }
    await fails(t, { signal: abort.signal, onPhase }, { message: 'enough' })
  }
  await fails(t, { signal: AbortSignal.abort(new Error('enough')) }, { message: 'enough' })

  await t.test('a full disk', async (t) => {
    const disk = await smallDisk(t, 8 << 20)
    if (disk === null) return t.comment(noSmallDisk)
    await fails(t, { directory: join(disk.directory, 'x', 'server') }, { code: 'disk-full' })
    await disk.resize(44 << 20)
    const more = { directory: join(disk.directory, 'x', 'server') }
    await start(t, more).then(
      ({ server }) => server.remove(),
      (error: unknown) => t.match(error, { code: 'disk-full' }, 'wherever it hits'),
    )
    t.same(await readdir(join(disk.directory, 'x')), [])
  })
})

t.test('the owner is killed: killOrphans finds all that it started', async (t) => {
  const real = await scratchDirectory(t)
  const program = fileURLToPath(new URL('fixtures/own-a-server.ts', import.meta.url))
  const link = join(await scratchDirectory(t), 'link')
  await symlink(real, link)
  for (const folder of [real, link]) {
    const owner = spawn(execPath, [program, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(owner.stdout, 'data')
    const server = await postmasterPid(join(folder, 'server/data'))
    owner.kill('SIGKILL')
    await once(owner, 'exit')
    t.ok(await isAlive(server), 'a server outlives its owner')
    const helper = await startProgram({ program: 'sleep', args: ['60'], env: { [workMarker]: folder } })
    const other = await startProgram({ program: 'sleep', args: ['60'], env: { [workMarker]: `${folder}-other` } })
    const killed = await killOrphans(folder)
    t.ok(
      killed.includes(server) && killed.includes(helper.pid),
      folder === link ? 'through a symbolic link' : 'directly',
    )
    t.notOk(killed.includes(other.pid) || killed.includes(process.pid), 'and nothing else')
    while (await isAlive(server));
    other.kill('SIGKILL')
    t.match(await helper.exited, { signal: 'SIGKILL' })
    await other.exited
    t.same(await killOrphans(folder), [])
    const again = await startProgram({ program: 'rm', args: ['-r', join(real, 'server')] })
    t.match(await again.exited, { code: 0 })
  }
})

t.test('whoever may remove a tree can do so when a recovery was killed in it', async (t) => {
  const directory = await scratchDirectory(t)
  await chmod(directory, 0o1777)
  const { seteuid } = process
  // Root may write everywhere: it proves nothing.
  if (osUser !== null) seteuid?.(osUser.uid)
  try {
    const links = join(directory, 'data', 'pg_tblspc')
    await mkdir(links, { recursive: true })
    for (const name of ['16390', '16391']) await symlink('/nowhere', join(links, name))
    await chmod(links, 0o500)
    await removeTree(join(directory, 'data'))
  } finally {
    if (osUser !== null) seteuid?.(0)
  }
  t.same(await readdir(directory), [])
})
