import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { ageKey, encryptingFor, encryptionYaml } from '../support/age.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { allShipped, followInstructions, followPage } from '../support/follow.ts'
import { type Cluster, cannotHave } from '../support/postgres.ts'
import { openDirectory } from '../support/scratch.ts'

for (const major of [15, 17, 18] as const) {
  const skip = await cannotHave(major)
  t.test(`RESTORE.md, followed to the letter, on PostgreSQL ${major}`, { skip, timeout: 200_000 }, async (t) => {
    const { cluster, archive, sidecar } = await physicalCluster(t, { major, initdbArgs: ['--data-checksums'] })
    const location = await makeTablespace(t, cluster, 'elsewhere')
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
    await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
    await cluster.sql('create table moved as select generate_series(1, 50) as i', 'app')
    // It would archive into the directory of the server that was backed up.
    await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
    const { sidecar: one } = await sidecar(t)
    // The full backup lies open, those that build on it are encrypted.
    const key = major === 17 ? await ageKey(await openDirectory(t)) : null
    const encrypting =
      key === null
        ? one
        : (
            await sidecar(t, {
              ...{ ships: false, directory: one.directory },
              yaml: { wal: { archive }, ...encryptionYaml(encryptingFor([key], null)) },
            })
          ).sidecar
    const jobs = major === 15 ? (['full'] as const) : (['full', 'incremental', 'incremental'] as const)
    for (const [index, job] of jobs.entries()) {
      // One that the full backup does not know.
      if (index === 1) {
        await makeTablespace(t, cluster, 'later')
        await cluster.sql('alter table moved set tablespace later', 'app')
      }
      t.match(await (index === 0 ? one : encrypting).run(job), { state: 'succeeded', items: [{ backupType: job }] })
      await cluster.sql(
        'insert into t select 1; delete from t where i between 500 and 600; insert into far select 1',
        'app',
      )
    }
    const before = await takeNote(cluster)
    await cluster.sql('delete from t where i > 7', 'app')
    const [expected] = await cluster.sql<Counts>(counts, 'app')
    await allShipped(cluster, one)
    const manifest = (await one.manifests()).at(-1)
    if (manifest === undefined) return t.fail('there is no backup')
    const files = await readdir(location, { recursive: true })

    const { data, source } = await followInstructions(
      t,
      one.folder(manifest),
      cluster.installation.directory,
      key?.file,
    )
    const restored = await withSession(source, { database: 'app' }, (session) => session.query<Counts>(counts))
    t.same(restored, [expected], 'all that was committed before the end of the WAL is there')
    await withSession(source, { database: 'app' }, (session) => session.query('drop table far; checkpoint'))
    t.same(await readdir(location, { recursive: true }), files, 'the tablespace of the old server was left alone')
    t.match(await cluster.sql<Counts>(counts, 'app'), [expected])
    t.notOk((await readdir(archive)).includes('.never'))
    t.notOk((await readdir(data)).includes('tablespace_map'))

    // By the page, which begins with one full backup, to the moment before rows were deleted.
    if (major !== 15) return
    const repository = dirname(dirname(one.folder(manifest)))
    await loseStored(repository, before.segment) // the archive has it
    const byHand = await followPage(t, {
      page: 'pitr.md',
      section: 'By hand',
      values: {
        repository,
        backup: manifest.backupId,
        moment: before.at,
        archive,
        work: join(await openDirectory(t), 'w'),
      },
      programs: cluster.installation.directory,
    })
    t.match(byHand.said, /recovery stopping before commit/)
    t.match(byHand.said, /pg_last_wal_replay_lsn/)
    const asBefore = await withSession(byHand.source, { database: 'app' }, (session) => session.query<Counts>(counts))
    t.same(asBefore, [before.counts], 'the rows are there that were deleted afterwards')
    t.not(before.counts.t, expected?.t)
    await withSession(byHand.source, { database: 'app' }, (session) => session.query('drop table far; checkpoint'))
    t.match(await cluster.sql<Counts>(counts, 'app'), [expected], 'and the server knows nothing of it')
  })
}

interface Counts {
  readonly t: string
  readonly far: string
  readonly moved: string
}
const counts = `select (select count(*) || md5(sum(i)::text) from t) as t, (select count(*)::text from far) as far,
  (select count(*)::text from moved) as moved`

/** What there is at a moment, and the segment in which it lies. */
async function takeNote(cluster: Cluster) {
  const [found] = await cluster.sql<Counts>(counts, 'app')
  const [now] = await cluster.sql<{ at: string; segment: string }>(
    'select clock_timestamp()::text as at, pg_walfile_name(pg_current_wal_insert_lsn()) as segment',
  )
  if (found === undefined || now === undefined) throw new Error('the server does not answer')
  return { ...now, counts: found }
}

/** As if the sidecar had died before it came to this segment. */
async function loseStored(repository: string, segment: string): Promise<void> {
  const names = await readdir(join(repository, 'wal'), { recursive: true })
  for (const name of names) if (basename(name).startsWith(`${segment}-`)) await rm(join(repository, 'wal', name))
}
