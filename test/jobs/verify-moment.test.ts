import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { cli } from '../support/cli.ts'
import { cannotHave } from '../support/postgres.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { afterDamage, proofOf, removeSegment, storedSegments, verdictsOf } from '../support/verified.ts'

t.test('replayed to a moment after the backup', { timeout: 200_000, skip: await cannotHave(17) }, async (t) => {
  const { cluster, archive, sidecar } = await physicalCluster(t, { major: 17 })
  await cluster.createDatabase('app', 'create table t (i int)')
  const { sidecar: source } = await sidecar(t)
  t.match(await source.run('full'), { state: 'succeeded' })
  const [manifest] = await source.manifests()
  if (manifest === undefined) return t.fail('there is no backup')
  const moments: string[] = []
  const names: string[] = []
  for (let count = 1; count <= 3; count += 1) {
    await cluster.sql('insert into t values (1)', 'app')
    const [row] = await cluster.sql<{ at: string; name: string }>(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, pg_walfile_name(pg_switch_wal()) as name`,
    )
    moments.push(row?.at ?? '')
    names.push(row?.name ?? '')
  }
  const stored = async () => (await storedSegments(source.config.repositories[0]?.path ?? '')).join('\n')
  while (!(await stored()).includes(names.at(-1) ?? '-')) await cluster.sql('select pg_sleep(0.02)')
  const rows = (expect: number) => ({
    verification: { assertions: [{ name: 'rows', database: 'app', sql: 'select count(*) from t', expect }] },
  })
  const copyWith = (t: Test, expect: number, damage: (repository: string) => Promise<unknown> = async () => {}) =>
    afterDamage(t, { cluster, source, manifest }, (_, repository) => damage(repository), { yaml: rows(expect) })
  const before = await readdir(archive)

  t.test('not asked for one: to the end of the backup', async (t) => {
    const one = await copyWith(t, 0)
    const run = await one.run('verify')
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    t.match((await proofOf(one, manifest)).restored, { target: null })
  })

  t.test('to a moment, and to the end of all WAL', async (t) => {
    const at = moments[1] ?? ''
    const one = await copyWith(t, 2)
    const run = await one.run('verify', { at })
    t.match(run, { state: 'succeeded', items: [{ verdict: 'pass' }] }, JSON.stringify(run.failure))
    const { restored } = await proofOf(one, manifest)
    t.match(restored, { target: at, timeline: 1 })
    t.ok(
      (restored?.lastCommitAt ?? '') < at && (restored?.lastCommitAt ?? '') > (moments[0] ?? ''),
      restored?.lastCommitAt ?? '',
    )
    const all = await copyWith(t, 3)
    t.match(await all.run('verify', { at: 'latest', backup: manifest.backupId }), { state: 'succeeded' })
    const { restored: whole } = await proofOf(all, manifest)
    t.match(whole, { target: 'latest' })
    t.equal(whole?.walBytes, restored?.walBytes, 'nobody knows in which segment a moment is')
    const file = join(all.directory, 'lifeboat.yaml')
    await writeFile(file, all.yaml, { mode: 0o600 })
    const told = await cli(['verify', manifest.backupId, '--latest', '--level', 'restore', '-c', file])
    t.equal(told.code, 0, told.err)
    t.match(told.out, new RegExp(`^${manifest.backupId} \\(full\\) in local: pass\n`))
    t.match(told.out, /replayed to the end of the WAL: 0\/[0-9A-F]+ on timeline 1, last commit 2\d{3}-/)
    t.same(await readdir(archive), before)
    t.same([...(await one.leftovers()), ...(await all.leftovers())], [])
  })

  t.test('a hole on the way is no fault of the backup', async (t) => {
    const one = await copyWith(t, 3, (repository) => removeSegment(repository, names[1] ?? ''))
    t.match(await one.run('verify', { at: moments[2] ?? '' }), { failure: { code: 'verification-inconclusive' } })
    const proof = await proofOf(one, manifest)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'moment-not-reached' })
    t.same(await one.leftovers(), [])
    const later = await copyWith(t, 3)
    const run = await later.run('verify', { at: new Date(Date.parse(moments[2] ?? '') + 1).toISOString() })
    t.match(
      run,
      { failure: { code: 'verification-inconclusive', message: /moment-not-reached/ } },
      'nothing was committed after',
    )
  })

  t.test('what cannot be asked for', async (t) => {
    const one = await copyWith(t, 0)
    const refused = async (params: Parameters<Sidecar['run']>[1], failure: object) =>
      t.match(await one.run('verify', params), { state: 'failed', failure })
    const { backupId: backup } = manifest
    await refused(
      { at: manifest.start.time },
      { code: 'not-found', message: /no physical backup that was consistent at/ },
    )
    await refused({ at: manifest.start.time, backup }, { code: 'not-recoverable' })
    await refused({ at: 'yesterday' }, { code: 'usage-invalid' })
    await refused({ at: 'latest', database: 'app' }, { code: 'usage-invalid' })
    await refused({ at: 'latest', level: 'artifact' }, { code: 'usage-invalid' })
    t.match(await one.run('dump', { database: 'app' }), { state: 'succeeded' })
    const dump = (await one.manifests()).find(({ type }) => type === 'dump')
    await refused({ at: 'latest', backup: dump?.backupId ?? '' }, { code: 'usage-invalid', message: /is a dump/ })
  })
})
