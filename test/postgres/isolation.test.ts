import { access, chown, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { quoteLiteral } from '../../src/postgres/conninfo.ts'
import { probeIsolation } from '../../src/postgres/isolation.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { assertHarmless, serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { type ScratchServer, startScratchServer } from '../../src/postgres/scratch-server.ts'
import { installationOf } from '../support/postgres.ts'
import { processes } from '../support/processes.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

const needsRoot = userInfo().uid !== 0 && 'needs root'
const noNamespaces = 'this machine does not permit namespaces'

/** What a function in a dump could do: has the server run a command, and gives its output. */
async function runInside(server: ScratchServer, command: string): Promise<readonly string[]> {
  return withSession(server.source, { database: 'postgres' }, async (session) => {
    await session.query('create table if not exists said (line text); truncate said')
    await session.query(
      `copy said from program ${quoteLiteral(command)} (format csv, delimiter e'\\x01', quote e'\\x02')`,
    )
    return (await session.query<{ line: string }>('select line from said')).map(({ line }) => line)
  })
}

async function start(t: Test, hidden: readonly string[] = []) {
  const workFolder = await scratchDirectory(t)
  const osUser = await serverOsUser('nobody')
  const { through, detail } = await probeIsolation({ user: osUser, hidden, needed: [workFolder] })
  const server = await startScratchServer({
    installation: await installationOf(15),
    directory: join(workFolder, 'server'),
    osUser,
    through,
    superuser: 'postgres',
    workFolder,
  })
  t.teardown(() => server.remove())
  return { workFolder, server, through, detail }
}

/** The process that our child `unshare` has started. */
async function postmasterOf(workFolder: string): Promise<number> {
  const all = await processes()
  const through = all.find(({ command }) => command.startsWith('unshare ') && command.includes(workFolder))
  return all.find(({ parent }) => parent === through?.pid)?.pid ?? Number.NaN
}

/** A process and all that descend from it. */
async function familyOf(pid: number): Promise<readonly number[]> {
  const all = await processes()
  const family = [pid]
  for (const member of family) family.push(...all.filter(({ parent }) => parent === member).map((child) => child.pid))
  return family
}

const sees = (secret: string) =>
  [
    'grep -E "^(Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs):" /proc/self/status | tr "\\t" " "',
    'echo "network $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " ")"',
    'echo "processes $(ls -d /proc/[0-9]* | wc -l)"',
    `cat ${secret} > /dev/null 2>&1 && echo "reads the secret"`,
    `rm -r ${secret} > /dev/null 2>&1 && echo "removes the secret"`,
    'env | sed "s/^/env /"',
    'echo end',
  ].join('; ')

function assertApart(t: Test, lines: readonly string[], home: string): void {
  const status = Object.fromEntries(lines.filter((line) => /^[A-Z]\w+:/.test(line)).map((line) => line.split(/:\s*/)))
  for (const name of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) t.match(status[name], /^0+$/, name)
  t.equal(status.NoNewPrivs, '1')
  t.ok(lines.includes('network lo'), 'no network')
  const count = Number(lines.find((line) => line.startsWith('processes '))?.split(' ')[1])
  t.ok(count > 0 && count < 20, `only its own processes: ${count}`)
  t.notOk(lines.includes('reads the secret'))
  t.notOk(lines.includes('removes the secret'))
  const env = lines.filter((line) => line.startsWith('env ')).map((line) => line.slice(4))
  t.ok(env.includes(`HOME=${home}`))
  t.notMatch(env.join('\n'), /^LIFEBOAT_TEST_CANARY=|^USER=/m)
  t.ok(lines.includes('end'))
}

process.env.LIFEBOAT_TEST_CANARY = 'tweet'
process.env.LD_LIBRARY_PATH = '/nonexistent/canary'

t.test('as root', { skip: needsRoot, timeout: 60_000 }, async (t) => {
  const repository = await scratchDirectory(t)
  const secret = join(repository, 'secret')
  await writeFile(secret, 'x', { mode: 0o666 })
  const { workFolder, server, through, detail } = await start(t, [repository])
  if (through === null) return t.comment(noNamespaces, detail)
  t.match(detail, /as OS user nobody in namespaces of its own, 1 directories hidden/)
  const lines = await runInside(server, sees(secret))
  assertApart(t, lines, join(workFolder, 'server'))
  t.notMatch(lines.join('\n'), /canary/i, 'nothing of our environment')
  await access(secret)

  t.test('a process that hides from its owner ends with the server', async (t) => {
    const mark = `8${process.pid}`
    await runInside(server, `cd /; setsid env -i /bin/sleep ${mark} > /dev/null 2>&1 & echo started`)
    const sleeping = async () => (await processes()).filter(({ command }) => command === `/bin/sleep ${mark}`).length
    await untilAnswer('it runs', async () => (await sleeping()) > 0)
    t.same(await killOrphans(join(workFolder, 'nothing here')), [])
    await server.stop('immediate')
    // The kernel ends what is in a namespace a moment after its first process.
    await untilAnswer('it has ended', async () => (await sleeping()) === 0)
  })

  t.test('stopped, started, killed', async (t) => {
    for (const mode of ['fast', 'immediate'] as const) {
      await server.start()
      t.same(await runInside(server, 'echo again'), ['again'])
      await server.stop(mode)
      t.equal(await server.isLost(), false, 'it was asked to')
    }
    await server.start()
    t.equal(await server.isLost(), false)
    process.kill(await postmasterOf(workFolder), 'SIGKILL')
    t.equal(await server.isLost(), true)
    await server.start()
    const postmaster = await postmasterOf(workFolder)
    // Of every process of it: of what is in /dev/shm nobody could tell whose it is.
    const maps = await Promise.all((await familyOf(postmaster)).map((pid) => readFile(`/proc/${pid}/maps`, 'utf8')))
    t.match(maps.join(''), /\/postgres$/m)
    t.notMatch(maps.join(''), /\/dev\/shm\//, 'its shared memory was never here')
    process.kill(postmaster, 'SIGKILL')
    while (!(await server.isLost()));
    await server.remove()
    t.same(await readdir(workFolder), [])
    t.same(await killOrphans(workFolder), [])
  })
})

t.test('as another OS user', { skip: needsRoot, timeout: 60_000 }, async (t) => {
  const user = await serverOsUser('nobody')
  const folder = await scratchDirectory(t)
  const [work, repository] = [join(folder, 'work'), join(folder, 'repository')]
  for (const directory of [work, repository]) {
    await mkdir(directory)
    await chown(directory, user?.uid ?? 0, user?.gid ?? 0)
  }
  await writeFile(join(repository, 'secret'), 'x', { mode: 0o666 })
  const program = fileURLToPath(new URL('fixtures/isolated-server.ts', import.meta.url))
  const readable = await runProgram({ program: 'cat', args: [program], user }).then(
    () => true,
    () => false,
  )
  if (!readable) return t.comment('this checkout is closed to nobody')
  const { LD_LIBRARY_PATH: _, ...env } = { LIFEBOAT_TEST_CANARY: 'tweet', HOME: work, LD_LIBRARY_PATH: '' }
  const args = [program, work, repository, sees(join(repository, 'secret'))]
  const { stdout } = await runProgram({ program: execPath, args, user, env, bare: true })
  const { isolated, detail, lines } = JSON.parse(stdout)
  if (!isolated) return t.comment(noNamespaces, detail)
  assertApart(t, lines, join(work, 'server'))
  t.same(await readdir(work), [])
  t.same(await readdir(repository), ['secret'])
})

t.test('what is hidden', async (t) => {
  const folder = await scratchDirectory(t)
  for (const name of ['repository/inner', 'repository-2', 'work/run'])
    await mkdir(join(folder, name), { recursive: true })
  await symlink('repository-2', join(folder, 'link'))
  await writeFile(join(folder, 'file'), '')
  const names = ['repository', 'repository/inner', 'link', 'repository-2', 'work', 'file', 'missing', '.', '../..']
  const hidden = [...names.map((name) => join(folder, name)), '/']
  const user = await serverOsUser('nobody')
  const { through } = await probeIsolation({ user, hidden, needed: [join(folder, 'work/run')] })
  if (through === null) return t.comment(noNamespaces)
  t.same(
    through.filter((arg) => arg.startsWith('--mount-proc=')).map((arg) => arg.slice('--mount-proc='.length)),
    ['repository', 'repository-2'].map((name) => join(folder, name)),
    'directories, each once, and none that holds what it needs',
  )
})

t.test('a machine that does not permit it', async (t) => {
  const nobody = { name: 'x', uid: Number.NaN, gid: 0 } // which setpriv refuses
  const probe = await probeIsolation({ user: nobody, hidden: [], needed: [] })
  t.match(probe, { through: null, detail: /as OS user x without namespaces of its own: \w+ exited with status \d+: / })
  const stopped = AbortSignal.abort(new Error('enough'))
  await t.rejects(probeIsolation({ user: null, hidden: [], needed: [], signal: stopped }), { message: 'enough' })
})

t.test('OS users that may do harm', async (t) => {
  const folder = await scratchDirectory(t)
  for (const name of ['sockets', 'data', 'repository']) await mkdir(join(folder, name))
  const [socket, lock] = ['sockets/.s.PGSQL.5433', 'sockets/.s.PGSQL.5433.lock'].map((name) => join(folder, name))
  await writeFile(socket as string, '')
  const { uid, gid } = userInfo()
  const them = { name: 'them', uid: 12_345, gid: 12_345 }
  const precious = {
    socketDirectories: [join(folder, 'sockets'), '/nonexistent'],
    directories: [join(folder, 'repository')],
  }
  await assertHarmless(them, precious)
  await assertHarmless(them, { socketDirectories: [], directories: [] })
  const refused = (user: typeof them, owned: string | RegExp) =>
    t.rejects(assertHarmless(user, precious), { code: 'usage-invalid', message: owned, hint: /useradd/ })
  await refused({ name: 'toor', uid: 0, gid: 0 }, /toor, who owns everything/)
  if (uid !== 0) return refused({ name: 'us', uid, gid }, new RegExp(`us, who owns ${socket}:`))
  for (const [owned, other] of [
    [socket, 'sockets'],
    [join(folder, 'data'), 'data directory'],
    [join(folder, 'repository'), 'repository'],
  ] as const) {
    await writeFile(lock as string, `1\n${join(folder, 'data')}\n1\n5433\n`)
    await chown(owned as string, them.uid, them.gid)
    await refused(them, new RegExp(`them, who owns ${owned}:`))
    await chown(owned as string, 0, 0)
    await assertHarmless(them, precious)
    t.ok(other)
  }
  t.match(await readFile(lock as string, 'utf8'), /data/)
})
