import { chmod, chown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { archiveCommand, restoreCommand } from '../../src/postgres/archiving.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import { type Cluster, cannotHave, type Major, startCluster } from '../support/postgres.ts'
import { type Archive, killingPrograms, makeArchive, startedPrograms } from '../support/wal.ts'

for (const major of [15, 17, 18] as const) {
  const skip = await cannotHave(major)
  t.test(`PostgreSQL ${major}: archived while killed, recovered to the end`, { skip, timeout: 240_000 }, async (t) => {
    const { cluster, archive } = await archivingCluster(t, major)
    await cluster.sql('create table t (i int, text text)')
    const copy = join(archive.base, 'copy')
    await runProgram({
      program: programPath(cluster.installation, 'pg_basebackup'),
      args: ['-D', copy, '-X', 'none', '-c', 'fast', '-h', cluster.source.host, '-U', cluster.source.user],
      user: archive.user,
      cwd: archive.base,
    })

    for (let round = 0; round < 24; round += 1) {
      // So the server tries again after a second; it would wait for ten if it saw that its command was killed.
      const victim = startedPrograms[round / 4]
      if (victim !== undefined) await writeFile(join(archive.base, 'hooks', `kill-${victim}`), '')
      await cluster.sql('insert into t select i, repeat(md5(i::text), 30) from generate_series(1, 1200) i')
    }
    await cluster.sql(`select pg_create_restore_point('end')`)
    const [last] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
    await until(async () => (await archive.stored()).includes(last?.name ?? ''))

    const alive = (await readdir(join(archive.base, 'hooks'))).filter((name) => name.startsWith('kill'))
    t.same(alive, [], 'one command was killed after each of its steps')
    const stored = (await archive.stored()).filter((name) => name.length === 24)
    t.ok(stored.length > 15, `${stored.length} segments of 1 MiB`)
    for (const name of stored) {
      const [here, there] = await Promise.all([
        readFile(join(archive.directory, name)),
        readFile(join(cluster.server.dataDirectory, 'pg_wal', name)),
      ])
      t.ok(here.equals(there), `${name} is what the server wrote`)
    }
    const first = Number.parseInt(stored[0]?.slice(8) ?? '', 16)
    t.same(
      stored.map((name) => Number.parseInt(name.slice(8), 16) - first),
      stored.map((_, index) => index),
      'none is missing',
    )
    const [rows] = await cluster.sql<{ count: string }>('select count(*)::text from t')

    await t.test('a hole ends the recovery, and opens nothing', async (t) => {
      const hole = join(archive.directory, stored.at(-3) ?? '')
      await rename(hole, join(archive.base, 'aside'))
      const said = await startCopy(cluster, archive, copy)
      t.match(said, /lifeboat-restore-wal: \S+: it is missing in .*, and that is a hole: \S+ is there/)
      t.match(said, /FATAL: {2}could not restore file/)
      await rename(join(archive.base, 'aside'), hole)
    })

    await t.test('the copy has everything', async (t) => {
      const running = await startCopy(cluster, archive, copy, async (source) => {
        await until(async () => {
          const [row] = await withSession(source, { database: 'postgres' }, (session) =>
            session.query<{ recovery: boolean }>('select pg_is_in_recovery() as recovery'),
          ).catch(() => [])
          return row?.recovery === false
        })
        const [found] = await withSession(source, { database: 'postgres' }, (session) =>
          session.query<{ count: string }>('select count(*)::text from t'),
        )
        t.same(found, rows)
      })
      t.match(running, /archive recovery complete/)
    })
    t.same(await readdir(join(copy, 'pg_wal')).then((all) => all.filter((name) => name.endsWith('.lifeboat'))), [])
  })
}

t.test(
  'other bytes under the same name keep the server from archiving, and say so',
  { timeout: 100_000 },
  async (t) => {
    const { cluster, archive } = await archivingCluster(t, 15)
    const [current] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
    const name = current?.name ?? ''
    const path = join(archive.directory, name)
    await writeFile(path, 'of another server', { mode: 0o644 })
    await cluster.sql('create table t (i int)')
    await cluster.sql('select pg_switch_wal()')
    const failed = async () => {
      const [row] = await cluster.sql<{ wal: string | null }>('select last_failed_wal as wal from pg_stat_archiver')
      return row?.wal === name
    }
    await until(failed)
    t.equal(await readFile(path, 'utf8'), 'of another server')
    t.ok((await readdir(join(cluster.server.dataDirectory, 'pg_wal'))).includes(name), 'the server keeps it')
    await rm(path)
    await until(async () => {
      // The next segment ends the minute that the archiver waits after three attempts.
      await cluster.sql('insert into t values (1)')
      await cluster.sql('select pg_switch_wal()')
      return (await archive.stored()).includes(name)
    })
    t.ok((await readFile(path)).equals(await readFile(join(cluster.server.dataDirectory, 'pg_wal', name))))
  },
)

/** A server with segments of 1 MiB that archives into an archive of its own, and keeps all its WAL for comparison. */
async function archivingCluster(t: Test, major: Major): Promise<{ cluster: Cluster; archive: Archive }> {
  const archive = await makeArchive(t)
  const path = await killingPrograms(archive)
  if (archive.user !== null) await chown(join(archive.base, 'hooks'), archive.user.uid, archive.user.gid)
  const command = archiveCommand(archive.programs, archive.directory)
  const cluster = await startCluster(t, {
    major,
    hba: ['local replication all trust'],
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: {
      archive_mode: 'on',
      archive_command: `PATH=${path} ${command} || exit 1`,
      wal_keep_size: '4GB',
      full_page_writes: 'on',
    },
  })
  return { cluster, archive }
}

/** Starts a restored copy on its own; gives what it said when it has ended, which `work` waits for if there is any. */
async function startCopy(
  cluster: Cluster,
  archive: Archive,
  data: string,
  work?: (source: Cluster['source']) => Promise<void>,
): Promise<string> {
  const sockets = join(archive.base, 's')
  await mkdir(sockets, { recursive: true })
  await chmod(sockets, 0o777)
  const signal = join(data, 'recovery.signal')
  await writeFile(signal, '')
  if (archive.user !== null) await chown(signal, archive.user.uid, archive.user.gid)
  const settings = {
    unix_socket_directories: sockets,
    listen_addresses: '',
    archive_mode: 'off',
    restore_command: restoreCommand(archive.programs, archive.directory),
    recovery_target_timeline: '1',
  }
  const server = await startProgram({
    program: programPath(cluster.installation, 'postgres'),
    args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    user: archive.user,
    cwd: archive.base,
  })
  server.stdout.resume()
  if (work !== undefined) {
    try {
      await work({ ...cluster.source, host: sockets })
    } finally {
      server.kill('SIGINT')
    }
  }
  return (await server.exited).stderr
}

/** Waits for a condition; the test's own timeout ends it. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(50)
}
