import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { socketSource } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Run } from '../../src/runner/job.ts'
import { cli } from '../support/cli.ts'
import { closedCheckout, lifeboatProgram } from '../support/lifeboat-program.ts'
import { prepareRestores, rowsOf, shipped, sourceOf, stopRestored } from '../support/restoring.ts'
import { openDirectory } from '../support/scratch.ts'
import { mainFile, processesOf } from '../support/sidecar.ts'
import { untilAnswer } from '../support/until.ts'

t.test('lifeboat restore, of a cluster', { timeout: 300_000 }, async (t) => {
  const ground = await prepareRestores(t, 15)
  const { cluster, sidecar, moments } = ground
  const config = join(sidecar.directory, 'lifeboat.yaml')
  await writeFile(config, sidecar.yaml, { mode: 0o600 })
  const restore = (...argv: readonly string[]) => cli(['restore', '--config', config, ...argv])

  t.test('what does not go together', async (t) => {
    const refused = [
      [['--latest'], /where to/],
      [['--to', 'restored', '--latest'], /is no path of a directory.*--to \.\/restored/s],
      [['--to', '/srv/a', '--database', 'app'], /--database is for the restore of a dump/],
      [['--to', '/srv/a', '--at', 'now'], /no moment/],
      [['--to', '/srv/a', '--lsn', 'x'], /no place in the WAL/],
      [['--to', '/srv/a', '--lsn', '0/1', '--latest'], /exclude one another/],
      [['--to', '/srv/a', '--start', '--no-start'], /exclude one another/],
      [['--to', '/srv/a', '--action', 'pause'], /no place at which a server can pause/],
      [['--to', '/srv/a', '--action', 'stop'], /--action cannot be/],
      [['--to', '/srv/a', '--tablespace-map', 'x'], /--tablespace-map cannot be/],
      [['--to', '/srv/a', '20260101T000000Z-dump-000000'], /no physical backup/],
      [['20260101T000000Z-full-000000'], /where to/],
      [['--to', '/srv/a', '--timeline', '0'], /is no timeline/],
      [['--to', '/srv/a', '--system-identifier', '1x'], /no system identifier/],
    ] as const
    for (const [argv, message] of refused) {
      const { code, err } = await restore(...argv)
      t.equal(code, 2, argv.join(' '))
      t.match(err, message)
    }
    t.match((await cli(['help', 'restore'])).out, /--to DIRECTORY.*--tablespace-map/s)
  })

  t.test('a dry run writes nothing', async (t) => {
    const to = join(await openDirectory(t), 'restored')
    const at = moments.before.toISOString()
    const told = await restore('--to', to, '--at', at, '--dry-run')
    t.equal(told.code, 0, told.err)
    t.match(told.out, /can be restored.*to fetch.*disk.*room for .*restored: about/s)
    const { code, out } = await restore('--to', to, '--at', at, '--dry-run', '--json')
    t.equal(code, 0)
    t.match(JSON.parse(out), {
      directory: to,
      target: { kind: 'time' },
      recovery: { recoverable: true },
      failure: null,
    })
    t.match(await restore('--to', to, '--at', moments.first.toISOString(), '--dry-run'), {
      code: 1,
      err: /no backup is as old/,
    })
    t.match(await restore('--to', cluster.server.dataDirectory, '--dry-run'), { code: 2, err: /is the data directory/ })
    t.match(await restore('--to', join(to, 'deeper'), '--dry-run'), { code: 2, err: /restored does not exist/ })
    t.equal(await lstat(to).catch(() => null), null)
  })

  t.test('when the server is dead', async (t) => {
    const folder = await openDirectory(t)
    const [to, other] = [join(folder, 'restored'), join(folder, 'other')]
    t.teardown(() => Promise.all([to, other].map((one) => stopRestored(cluster, one))))
    // Nothing but a configuration and the repository: another machine.
    const bare = join(folder, 'lifeboat.yaml')
    const { repositories, cluster: name, postgres } = JSON.parse(sidecar.yaml)
    await writeFile(
      bare,
      JSON.stringify({
        cluster: name,
        repositories,
        stateDir: join(folder, 'state'),
        postgres: { ...postgres, host: folder },
      }),
    )
    const told = await cli(['restore', '--config', bare, '--to', to, '--at', moments.before.toISOString().slice(0, -1)])
    t.equal(told.code, 0, told.err)
    t.match(told.err, /was taken for UTC; the same moment at any time: --at '\d{4}-\d\d-\d\d [\d:.]+\+00'/)
    t.match(
      told.out,
      /restored \S+ into .*asked: .*reached: .*recovery stopping before.*promoted, on timeline 2.*connect: psql .* --dbname=postgres/s,
    )
    const json = await cli([
      'restore',
      '--config',
      bare,
      '--to',
      other,
      '--name',
      'point',
      '--action',
      'pause',
      '--json',
    ])
    const run = JSON.parse(json.out) as Run
    t.match(run.items[0]?.restored, {
      asked: 'the restore point "point"',
      newTimeline: null,
      stoppedAt: /stopping at restore point/,
    })
    t.same(await rowsOf(sourceOf(run)), ['one', 'two'])
  })

  t.test('as the OS user of the server, which gets the WAL by itself', async (t) => {
    const user = await serverOsUser('postgres')
    if (user === null) return t.pass('all the others are that')
    const folder = await openDirectory(t)
    const to = join(folder, 'restored')
    t.teardown(() => stopRestored(cluster, to))
    await cp(join(sidecar.directory, 'repository'), join(folder, 'repository'), { recursive: true })
    await writeFile(
      join(folder, 'lifeboat.yaml'),
      JSON.stringify({
        cluster: JSON.parse(sidecar.yaml).cluster,
        stateDir: join(folder, 'state'),
        repositories: [{ name: 'local', url: `file://${join(folder, 'repository')}` }],
        postgres: { ...JSON.parse(sidecar.yaml).postgres, host: folder },
      }),
    )
    await runProgram({
      program: 'chown',
      args: ['-R', user.name, join(folder, 'repository'), join(folder, 'lifeboat.yaml')],
    })
    await mkdir(join(folder, 'closed'), { mode: 0o755 })
    const program = await lifeboatProgram(folder, user)
    if (program === null) return t.pass(closedCheckout)
    const asServer = (...argv: readonly string[]) => {
      const args = ['restore', '--config', join(folder, 'lifeboat.yaml'), '--name', 'point', ...argv]
      return runProgram({ program, args, user, cwd: folder })
    }
    const message = { message: /install -d -m 0700 -o / }
    await t.rejects(asServer('--to', join(folder, 'closed', 'a')), message)
    await t.rejects(asServer('--to', to, '--os-user', 'root'), {
      message: /run it as root to name another one/,
    })
    const { stdout } = await asServer('--to', to, '--json')
    t.match(JSON.parse(stdout), { state: 'succeeded', items: [{ restored: { newTimeline: 2 } }] })
  })

  t.test('by the command that it prints', async (t) => {
    const to = join(await openDirectory(t), "it's 50%")
    t.teardown(() => stopRestored(cluster, to))
    const user = await serverOsUser('postgres')
    if (user !== null) {
      const closed = await restore('--to', `${to} first`, '--name', 'point', '--no-start')
      t.match(closed, { code: 0, err: /warning: a server of the OS user postgres cannot fetch WAL by itself/ })
      await runProgram({ program: 'chown', args: ['-R', user.name, join(sidecar.directory, 'repository')] })
    }
    const { code, out, err } = await restore('--to', to, '--name', 'point', '--no-start')
    t.equal(code, 0, err)
    const names = await readdir(to)
    t.notOk(names.includes('postmaster.pid') || names.includes('lifeboat-restore-incomplete'))
    if (err.includes('cannot fetch WAL')) return t.pass(closedCheckout)
    const [, command = ''] = /^ +start: +(.*)$/m.exec(out) ?? []
    await runProgram({ program: 'sh', args: ['-c', command] }).catch(async () => {
      t.fail(await readFile(join(to, 'lifeboat-restore', 'server.log'), 'utf8'))
    })
    const source = socketSource({ host: join(to, 'lifeboat-restore', 's'), port: 5432, user: 'postgres' })
    const rows = await untilAnswer('the end of the recovery', () => rowsOf(source).catch(() => undefined))
    t.same(rows, ['one', 'two'])
  })

  t.test('killed half-way', async (t) => {
    await cluster.sql(
      'create table filler as select i, repeat(md5(i::text), 20) as words from generate_series(1, 60000) i',
      'app',
    )
    await cluster.sql('insert into later values (2)', 'app')
    await shipped(cluster, sidecar)
    const to = join(await openDirectory(t), 'restored')
    t.teardown(() => stopRestored(cluster, to))
    const begin = () => {
      const child = spawn(process.execPath, [mainFile, 'restore', '--config', config, '--to', to, '--json'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.teardown(() => child.kill('SIGKILL'))
      return child
    }
    const marked = async () => (await readdir(to).catch((): string[] => [])).includes('lifeboat-restore-incomplete')
    const kill = async (child: ReturnType<typeof begin>) => {
      child.kill('SIGKILL')
      await once(child, 'exit')
      t.ok(await marked(), 'it says of itself that it is not whole')
    }
    const first = begin()
    first.stdout.resume()
    await untilAnswer('the files are on their way', marked)
    await kill(first)
    t.match(await restore('--to', to, '--immediate'), { code: 3, err: /only the same command goes on/ })

    const second = begin()
    second.stdout.resume()
    const log = join(to, 'lifeboat-restore', 'recovery', 'server.log')
    await untilAnswer('the replay', async () =>
      (await readFile(log, 'utf8').catch(() => '')).includes('consistent recovery state'),
    )
    await kill(second)

    const third = begin()
    const run = JSON.parse(await text(third.stdout)) as Run
    t.match(run, { state: 'succeeded', failure: null })
    t.notOk(await marked())
    t.same(await rowsOf(sourceOf(run), 'select i::text as word from later order by 1'), ['1', '2'])
    await stopRestored(cluster, to)
    t.same(await processesOf(to), [], 'no server of a killed one is left')
    t.same(await readdir(join(to, '..')), ['restored'])
  })
})
