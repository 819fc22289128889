import { execFile } from 'node:child_process'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import { materialize } from '../../src/physical/materialize.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { type Cluster, cannotHave } from '../support/postgres.ts'
import { startRestored } from '../support/restored.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { flipBit } from '../support/tamper.ts'

const signal = new AbortController().signal
const contents = `select (select count(*) || md5(sum(i)::text) from t) as t, (select count(*)::text from far) as far`

for (const major of [17, 18] as const) {
  t.test(`PostgreSQL ${major}`, { timeout: 250_000, skip: await cannotHave(major) }, async (t) => {
    const { cluster, archive, sidecar } = await physicalCluster(t, { major })
    await makeTablespace(t, cluster, 'elsewhere')
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
    await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
    await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
    const change = () =>
      cluster.sql('insert into t select 1; delete from t where i between 5 and 6; insert into far select 1', 'app')
    const yaml = { physical: { chainLimit: 3, consolidate: true } }
    const directory = await openDirectory(t)
    const [a, b] = [join(directory, 'a'), join(directory, 'b')]

    t.test('a chain at its limit is put together', async (t) => {
      const { sidecar: one } = await sidecar(t, { yaml, repositories: { a, b } })
      for (const type of ['full', 'incremental', 'incremental'] as const) {
        t.match(await one.run('incremental'), { state: 'succeeded', items: [{ backupType: type }, {}] })
        await change()
      }
      const chain = await one.manifests()
      const run = await one.run('incremental')
      t.match(run, { state: 'succeeded', failure: null })
      t.same(
        run.items.map(({ backupType, repository }) => [backupType, repository]),
        [
          ['full', 'a'],
          ['full', 'b'],
          ['incremental', 'a'],
          ['incremental', 'b'],
        ],
      )
      const all = await one.manifests()
      const made = all.find(({ physical }) => physical?.madeFrom !== undefined)
      const child = all.find(({ parent }) => parent === made?.backupId)
      const last = chain.at(-1)
      if (made === undefined || child === undefined || last === undefined) return t.fail('there are not five backups')
      t.equal(all.length, 5)
      t.match(made, { type: 'full', parent: null, start: last.start, stop: last.stop, timeline: last.timeline })
      t.same(
        made.physical?.madeFrom,
        chain.map(({ backupId }) => backupId),
      )
      t.same(child.physical?.basis, { timeline: last.timeline, lsn: last.start.lsn })
      t.match(child.warnings, [])
      t.same(await one.leftovers(), [])

      // The chain is needed no more.
      await change()
      await cluster.sql('select pg_switch_wal()')
      const expected = await cluster.sql(contents, 'app')
      for (const { backupId } of chain)
        for (const root of [a, b]) await rm(join(root, 'test', 'backups', backupId), { recursive: true })
      for (const members of [[made], [made, child]])
        t.same(await restored(t, { cluster, archive, one }, members), expected, 'it is what the server has')
      await followed(t, one.folder(made, 'b'), cluster.installation.directory)
      t.match(await one.run('incremental'), { state: 'succeeded', items: [{ backupType: 'incremental' }, {}] })
      t.equal((await one.manifests()).at(-1)?.parent, child.backupId, 'the chain goes on')
    })

    if (major > 17) return
    t.test('one that is damaged is not: the server is read', async (t) => {
      const { sidecar: one } = await sidecar(t, { yaml: { physical: { chainLimit: 2, consolidate: true } } })
      for (const _ of [1, 2]) t.match(await one.run('incremental'), { state: 'succeeded' })
      const [full] = await one.manifests()
      if (full === undefined) return t.fail('there is no backup')
      await flipBit(join(one.folder(full), 'base.tar.zst'))
      t.match(await one.run('incremental'), {
        state: 'succeeded',
        items: [
          { backupType: 'full', warnings: [/chain has 2 backups.*could not be put together: base\.tar\.zst of /] },
        ],
      })
      t.equal((await one.manifests()).length, 3)
      t.same(await one.leftovers(), [])
    })
  })
}

/** What a server has that was restored from a chain and replayed all WAL. */
async function restored(
  t: Test,
  { cluster, archive, one }: { readonly cluster: Cluster; readonly archive: string; readonly one: Sidecar },
  members: readonly Manifest[],
): Promise<unknown> {
  const directory = await openDirectory(t)
  const dataDirectory = join(directory, 'data')
  await materialize({
    ...{ dataDirectory, folder: join(directory, 'work'), installation: cluster.installation, signal },
    chain: members.map((manifest) => ({ manifest, repositories: [one.repository] })),
    tablespaces: new Map(members.at(-1)?.physical?.tablespaces.map(({ oid }) => [oid, join(directory, String(oid))])),
    owner: await serverOsUser('postgres'),
    onProgress: () => {},
  })
  const settings = await readFile(join(dataDirectory, 'postgresql.auto.conf.before-restore'), 'utf8')
  t.match(settings, 'archive_cleanup_command', 'settings of the server are in the backup')
  const source = await startRestored(t, dataDirectory, { installation: cluster.installation, archive })
  return withSession(source, { database: 'app' }, (session) => session.query(contents))
}

/** Follows RESTORE.md until there is a data directory. */
async function followed(t: Test, folder: string, programs: string): Promise<void> {
  const text = await readFile(join(folder, 'RESTORE.md'), 'utf8')
  const blocks = [...text.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block = '']) => block).slice(0, 4)
  t.match(blocks.at(-1), /recovery\.signal/)
  const env = { PATH: `${programs}:/usr/bin:/bin`, TMPDIR: await scratchDirectory(t) }
  const script = `${blocks.join('\n')}\necho "data=$data"`
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { cwd: folder, env })
  t.match(stdout, /backup successfully verified/)
  const [, data = ''] = /^data=(.*)$/m.exec(stdout) ?? []
  t.ok((await readdir(data)).includes('backup_label'))
}
