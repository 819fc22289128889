import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { newestProvenBackups } from '../../src/observe/questions.ts'
import { planBackups } from '../../src/observe/recovery.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { catalogOf, serverState } from '../support/catalog.ts'
import { keptLog } from '../support/log.ts'
import { cannotHave } from '../support/postgres.ts'
import { busyBackend } from '../support/processes.ts'
import type { SidecarOptions } from '../support/sidecar.ts'
import { flipBit, folderIn } from '../support/tamper.ts'
import { afterDamage, problemsOf, proofOf, seenBy, verdictsOf } from '../support/verified.ts'

t.test('PostgreSQL 17: a chain', { timeout: 300_000, skip: await cannotHave(17) }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { major: 17, initdbArgs: ['--data-checksums'] })
  await makeTablespace(t, cluster, 'elsewhere')
  await cluster.createDatabase(
    'app',
    'create table t as select i from generate_series(1, 10000) i; create index on t (i)',
  )
  await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
  const { sidecar: source, systemIdentifier } = await sidecar(t)
  for (const job of ['full', 'incremental', 'incremental'] as const) {
    t.match(await source.run(job), { state: 'succeeded', items: [{ backupType: job }] })
    await cluster.sql('insert into t select 1 from generate_series(1, 100); insert into far select 1', 'app')
  }
  t.match(await source.run('dump', { database: 'app' }), { state: 'succeeded' })
  const physical = (await source.manifests()).filter(({ type }) => type !== 'dump')
  const [full, middle, last] = physical
  if (full === undefined || middle === undefined || last === undefined) return t.fail('there are not three backups')
  const damaged = (t: Test, damage: (repository: string) => Promise<unknown>, options?: SidecarOptions) =>
    afterDamage(t, { cluster, source, manifest: last }, (_, repository) => damage(repository), options)

  t.test('what is not named is the newest dump of each database, and the newest backup of each type', async (t) => {
    const assertions = [{ name: 'rows', database: 'app', sql: 'select count(*) >= 10000 from t', expect: true }]
    const one = await damaged(t, async () => {}, { yaml: { verification: { assertions } } })
    const run = await one.run('verify')
    t.match(run, { state: 'succeeded', failure: null }, JSON.stringify(run.failure))
    t.same(run.items.map(({ backupType, verdict }) => `${backupType} ${verdict}`).toSorted(), [
      'dump pass',
      'full pass',
      'incremental pass',
    ])
    const proof = await proofOf(one, last)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'pass', data: 'pass' })
    t.ok((proof.phases.combine ?? 0) > 0)
    const names = proof.levels.artifact?.checks.map(({ name }) => name) ?? []
    for (const { backupId } of [full, middle]) t.ok(names.includes(`pg_verifybackup of ${backupId}`))
    t.ok(names.includes('pg_verifybackup'))
    t.equal(await one.repository.latestProof(middle.backupId), null, 'of the others nothing is said')
    t.same(await one.leftovers(), [])
    const state = await seenBy(one, keptLog().log)
    const catalog = catalogOf({
      at: new Date(),
      server: serverState(['app'], { systemIdentifier }),
      repositories: [state],
    })
    const proven = () => newestProvenBackups(catalog).map(({ backup }) => backup.type)
    t.same(proven().toSorted(), ['dump', 'full', 'incremental'])

    // Later the full one rots, and somebody looks.
    await flipBit(join(one.folder(full), 'base.tar.zst'))
    t.match(await one.run('verify', { backup: full.backupId, level: 'artifact' }), { state: 'failed' })
    const later = catalogOf({ ...catalog, at: new Date(), repositories: [await seenBy(one, keptLog().log)] })
    t.same(
      newestProvenBackups(later).map(({ backup }) => backup.type),
      ['dump'],
      'what builds on it is proven no more',
    )
  })

  t.test('a damaged parent: it is refuted, and all that build on it', async (t) => {
    for (const level of ['artifact', 'data']) {
      const one = await damaged(t, (repository) => flipBit(join(folderIn(repository, full), 'base.tar.zst')))
      const run = await one.run('verify', { backup: last.backupId, level })
      t.match(run, { state: 'failed', failure: { code: 'verification-failed' } })
      const proof = await proofOf(one, last)
      t.same(verdictsOf(proof), { artifact: 'checksum-mismatch' }, level)
      t.match(problemsOf(proof), [{ name: `checksum base.tar.zst of ${full.backupId}` }])
      const parent = await proofOf(one, full)
      t.match(parent, { level: 'artifact', manifestChecksum: full.checksum })
      t.same(verdictsOf(parent), { artifact: 'checksum-mismatch' })
      t.match(problemsOf(parent), [{ name: 'checksum base.tar.zst' }])
      t.equal(await one.repository.latestProof(middle.backupId), null)
      const plans = planBackups(await seenBy(one, keptLog().log), systemIdentifier)
      t.same(
        plans.filter(({ isRefuted }) => isRefuted).map(({ id }) => id),
        [full.backupId, last.backupId],
      )
      t.same(await one.leftovers(), [])
    }
  })

  t.test('a parent that is gone', async (t) => {
    const one = await damaged(t, (repository) => rm(folderIn(repository, middle), { recursive: true }))
    t.match(await one.run('verify', { backup: last.backupId }), { failure: { code: 'verification-failed' } })
    t.same(verdictsOf(await proofOf(one, last)), { artifact: 'parent-missing' })
    t.match(problemsOf(await proofOf(one, last)), [{ name: 'chain', detail: new RegExp(`^${middle.backupId}, on`) }])
    t.match(await one.run('verify', { backup: full.backupId }), { state: 'succeeded' }, 'the full one is good')
  })

  t.test('cancelled on the way, and while it looks into the data: nothing is left, and nothing is said', async (t) => {
    const hanging = { name: 'never ends', database: 'app', sql: 'select pg_sleep(600)', expect: null }
    const one = await damaged(t, async () => {}, { yaml: { verification: { assertions: [hanging] } } })
    const cancelled = async (when: (run: { id: string; ended: Promise<unknown> }) => Promise<unknown>) => {
      const run = one.begin('verify', { backup: last.backupId })
      await when(run)
      one.core.runner.cancel(run.id)
      t.match(await run.ended, { state: 'cancelled', items: [] })
      t.same(await one.leftovers(), [])
    }
    await cancelled(({ id }) => one.progress(id, /unpacking|checking|putting|fetching|start|replay/))
    await cancelled(({ ended }) => busyBackend(one.config.workDir, 'app', ended))
    t.equal(await one.repository.latestProof(last.backupId), null)
  })
})
