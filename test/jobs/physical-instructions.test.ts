import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { socketSource, withSession } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { scratchDirectory } from '../support/scratch.ts'
import type { Sidecar } from '../support/sidecar.ts'

const run = promisify(execFile)

for (const major of [15, 17] as const) {
  t.test(`RESTORE.md, followed to the letter, on PostgreSQL ${major}`, { timeout: 200_000 }, async (t) => {
    const { cluster, archive, sidecar } = await physicalCluster(t, { major, initdbArgs: ['--data-checksums'] })
    const location = await makeTablespace(t, cluster, 'elsewhere')
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
    await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
    // It would archive into the directory of the server that was backed up.
    await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
    const { sidecar: one } = await sidecar(t)
    const jobs = major === 15 ? (['full'] as const) : (['full', 'incremental', 'incremental'] as const)
    for (const job of jobs) {
      t.match(await one.run(job), { state: 'succeeded', items: [{ backupType: job }] })
      await cluster.sql(
        'insert into t select 1; delete from t where i between 500 and 600; insert into far select 1',
        'app',
      )
    }
    const [expected] = await cluster.sql<Counts>(counts, 'app')
    await cluster.sql('select pg_switch_wal()')
    const [end] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
    const [system] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
    await shippedBefore(one, system?.id ?? '', end?.name ?? '')
    const manifest = (await one.manifests()).at(-1)
    if (manifest === undefined) return t.fail('there is no backup')
    const before = await readdir(location, { recursive: true })

    const { data, source } = await follow(t, one.folder(manifest), cluster.installation.directory)
    const restored = await withSession(source, { database: 'app' }, (session) => session.query<Counts>(counts))
    t.same(restored, [expected], 'all that was committed before the end of the WAL is there')
    await withSession(source, { database: 'app' }, (session) => session.query('drop table far; checkpoint'))
    t.same(await readdir(location, { recursive: true }), before, 'the tablespace of the old server was left alone')
    t.match(await cluster.sql<Counts>(counts, 'app'), [expected])
    t.notOk((await readdir(archive)).includes('.never'))
    t.notOk((await readdir(data)).includes('tablespace_map'))
  })
}

interface Counts {
  readonly t: string
  readonly far: string
}
const counts = 'select (select count(*) || md5(sum(i)::text) from t) as t, (select count(*)::text from far) as far'

/** Resolves when the segment before this one is stored. */
async function shippedBefore(sidecar: Sidecar, systemIdentifier: string, name: string): Promise<void> {
  const previous = `${name.slice(0, 16)}${(Number.parseInt(name.slice(16), 16) - 1).toString(16).padStart(8, '0').toUpperCase()}`
  while ((await sidecar.repository.wal.ofSegment(systemIdentifier, previous)).length === 0)
    await new Promise((resolve) => setImmediate(resolve))
}

/** Carries out the blocks in one shell, as a person would, and the start as the OS user of the server. */
async function follow(t: Test, folder: string, programs: string) {
  const text = await readFile(join(folder, 'RESTORE.md'), 'utf8')
  const files = await readdir(folder)
  const blocks = [...text.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block = '']) => block)
  const start = blocks.pop() ?? ''
  const TMPDIR = await scratchDirectory(t)
  const env = { PATH: `${programs}:/usr/bin:/bin:/usr/sbin:/sbin`, TMPDIR }
  const { stdout } = await run('bash', ['-c', `${blocks.join('\n')}\necho "work=$work data=$data"`], {
    cwd: folder,
    env,
  })
  t.match(stdout, /base\.tar\.zst: OK/)
  t.same(await readdir(folder), files, 'nothing is done in the repository')
  const [, work = '', data = ''] = /^work=(.*) data=(.*)$/m.exec(stdout) ?? []
  const user = await serverOsUser('postgres')
  const asServer = (script: string) => {
    const args = ['-c', script]
    const own = { cwd: '/', env: { ...env, work, data } }
    return user === null ? run('bash', args, own) : run('runuser', ['-u', user.name, '--', 'bash', ...args], own)
  }
  if (user !== null) await run('chown', ['-R', user.name, work])
  t.teardown(() => asServer('pg_ctl --pgdata="$data" --mode=immediate stop'))
  await asServer(start)
  return { data, source: socketSource({ host: work, port: 5432, user: 'postgres' }) }
}
