import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { cli } from '../support/cli.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { openDirectory } from '../support/scratch.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { makeArchive } from '../support/wal.ts'

t.test('wal setup', { timeout: 100_000 }, async (t) => {
  const archive = await makeArchive(t)
  const cluster = await startCluster(t)
  const setup = async (...options: readonly string[]) =>
    cli(['wal', 'setup', '--config', await configFile(t, cluster, archive.directory), ...options])

  t.test('what the command line gives cannot be changed', async (t) => {
    const { code, out } = await setup()
    t.equal(code, 0)
    t.match(out, /archive_mode +off +elsewhere: on/)
    t.match(out, /archive_mode: given on the server's command line/)
    t.match(await setup('--apply'), { code: 3, err: /archive_mode is given on the server's command line/ })
  })

  t.test('from nothing to a segment that is archived', async (t) => {
    await cluster.server.stop()
    await withPlainServer(cluster, async () => {
      const shown = await setup('--programs', archive.programs)
      t.match(shown.out, /ALTER SYSTEM SET archive_command = E'/)
      t.match(shown.out, /ALTER SYSTEM SET archive_mode = 'on';\n {2}SELECT pg_reload_conf/, 'it comes last')
      t.match(shown.out, /restart the server, which lifeboat never does: archive_mode needs it/)
      t.match(shown.out, /restore_command = '/)
      const [before] = await cluster.sql(`select count(*)::int as count from pg_file_settings where name ~ '^archive'`)
      t.same(before, { count: 0 }, 'nothing was set')

      await rm(archive.incoming, { recursive: true })
      t.match(await setup('--apply'), { code: 1, err: /cannot be used.*\.incoming[\s\S]*HINT: as root: install -d/ })
      await mkdir(archive.incoming)
      await chmod(archive.incoming, 0o777)
      t.match(await setup('--apply', '--programs', 'relative'), { code: 2, err: /must be an absolute path/ })

      await cluster.sql('create role weak login')
      const weak = await cli([
        'wal',
        'setup',
        '--apply',
        '--config',
        await configFile(t, cluster, archive.directory, 'weak'),
      ])
      t.match(weak, { code: 1, err: /the role may not change/ })

      await cluster.sql(`alter system set archive_command = 'true'`)
      await cluster.sql('select pg_reload_conf()')
      t.match(await setup('--apply'), { code: 3, err: /another tool archives the WAL[\s\S]*--replace/ })
      const applied = await setup('--apply', '--replace', '--programs', archive.programs)
      t.equal(applied.code, 0, applied.err)
      t.match(applied.out, /This was set\./)
      t.match(applied.out, /archive_mode +off +waits for a restart: on/)
      t.match((await setup('--programs', archive.programs)).out, /archive_command +\? +waits for a restart/)
    })
    await withPlainServer(cluster, async () => {
      const after = await setup('--apply', '--programs', archive.programs)
      t.match(after.out, /There was nothing to set/)
      t.notMatch(after.out, /restart the server/)
      const json = JSON.parse((await setup('--json', '--programs', archive.programs)).out)
      t.match(json, {
        applied: false,
        statements: [],
        restart: [],
        restoreCommand: /lifeboat-restore-wal --else lifeboat --config \S+ --spool pg_wal\/lifeboat-spool "%f" "%p" /,
      })
      t.match(await check(t, cluster, archive.directory), [{ status: 'ok', what: /^\S{24} arrived in / }])
    })
  })

  t.match(await cli(['wal']), { code: 2, err: /what about the WAL\?/ })
  t.match(await cli(['wal', 'nope']), { code: 2, err: /no command wal "nope"/ })
  t.match(await cli(['wal', 'setup', '--replace']), { code: 2, err: /--replace goes with --apply/ })
})

t.test('check tells how archiving goes wrong', { timeout: 200_000 }, async (t) => {
  const archive = await makeArchive(t)
  const off = await startCluster(t)
  t.match(await check(t, off, archive.directory), [{ status: 'error', what: /archive_mode is off/ }])
  const cluster = await startCluster(t, { settings: { archive_mode: 'on' } })
  const command = async (text: string) => {
    await cluster.sql(`alter system set archive_command = '${text.replaceAll("'", "''")}'`)
    await cluster.sql('select pg_reload_conf()')
    while ((await cluster.sql<{ c: string }>(`select current_setting('archive_command') as c`))[0]?.c !== text)
      await delay(10)
  }
  const checked = () => check(t, cluster, archive.directory)

  await command('')
  t.match(await checked(), [{ status: 'error', what: /archive_command is empty/ }])

  await command('true')
  t.match(await checked(), [
    { status: 'warning', what: 'the server archives with true, which lifeboat does not know' },
    { status: 'error', what: /the server counts \S{24} as archived, but in .* it is not there/ },
  ])
  await command(
    `head -c 100 %p > "${archive.base}/"%f; cp "${archive.base}/"%f '${archive.directory.replaceAll("'", `'\\''`).replaceAll('%', '%%')}/'`,
  )
  t.match((await checked()).slice(-1), [
    { status: 'error', what: /as archived, but in .* it has 100 bytes instead of/ },
  ])

  await command('echo no >&2; false')
  t.match((await checked()).slice(-1), [{ status: 'error', what: /archive_command fails for \S{24}/, hint: /log/ }])

  await command(`${archive.programs}/lifeboat-archive "%p" "%f" /elsewhere`)
  t.match((await checked())[0], { status: 'error', what: /names another directory than wal\.archive/ })

  await cluster.sql('create role weak login')
  const weak = await check(t, cluster, archive.directory, 'weak')
  t.match(weak.slice(-1), [{ status: 'warning', what: /was not tried/, hint: /GRANT EXECUTE .* TO "weak"/ }])

  await rm(archive.incoming, { recursive: true })
  t.match((await checked())[0], { status: 'error', what: /cannot be used: ENOENT/, hint: /as root: install -d/ })
})

async function configFile(t: Test, cluster: Cluster, archive: string, user = cluster.source.user): Promise<string> {
  const directory = await openDirectory(t)
  const path = join(directory, 'lifeboat.yaml')
  const source = { ...cluster.source, user }
  await writeFile(path, sidecarYaml(cluster, directory, { source, yaml: { wal: { archive } } }))
  return path
}

/** What `lifeboat check` finds of the WAL. */
async function check(t: Test, cluster: Cluster, archive: string, user?: string) {
  const { out } = await cli(['check', '--json', '--config', await configFile(t, cluster, archive, user)])
  const findings: { area: string; status: string; what: string; hint?: string }[] = JSON.parse(out)
  return findings.filter(({ area }) => area === 'wal')
}

/** Starts the stopped server of a cluster with nothing on its command line but where it lives. */
async function withPlainServer(cluster: Cluster, work: () => Promise<void>): Promise<void> {
  const server = await startProgram({
    program: programPath(cluster.installation, 'postgres'),
    args: ['-D', cluster.server.dataDirectory, '-k', cluster.source.host, '-c', 'listen_addresses=', '-c', 'fsync=off'],
    user: await serverOsUser('postgres'),
  })
  server.stdout.resume()
  try {
    for (let up = false; !up; ) {
      up = await withSession(cluster.source, { database: 'postgres' }, async () => true).catch(() => delay(20, false))
    }
    await work()
  } finally {
    server.kill('SIGINT')
    await server.exited
  }
}
