import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { EncryptionConfig } from '../../src/config/validated.ts'
import { isEncrypted, type Manifest } from '../../src/domain/backup.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { ageKey, encryptingFor, encryptionYaml } from '../support/age.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { wishParams } from '../support/restoring.ts'
import { openDirectory } from '../support/scratch.ts'
import { flipBit } from '../support/tamper.ts'
import { proofOf, verdictsOf } from '../support/verified.ts'

t.test('physical backups are encrypted', { timeout: 200_000 }, async (t) => {
  const { cluster, archive, sidecar } = await physicalCluster(t, { major: 17 })
  const location = await makeTablespace(t, cluster, 'elsewhere')
  await cluster.createDatabase(
    'app',
    `create table t as select 'hidden words' || i as words from generate_series(1, 2000) i`,
  )
  await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
  const directory = await openDirectory(t)
  const [ours, others] = [await ageKey(directory, 'ours'), await ageKey(directory, 'others')]
  const repositories = { a: join(directory, 'a'), b: join(directory, 'b') }
  const { sidecar: open } = await sidecar(t, { repositories })
  const start = async (t: Test, encryption: EncryptionConfig | null, more: Readonly<Record<string, unknown>> = {}) => {
    const yaml = { wal: { archive }, ...encryptionYaml(encryption), ...more }
    return (await sidecar(t, { repositories, ships: false, directory: open.directory, yaml })).sidecar
  }
  const verified = async (t: Test, encryption: EncryptionConfig | null, backup: string, level = 'data') => {
    const one = await start(t, encryption)
    const run = await one.run('verify', { backup, repository: 'a', level })
    return { run, levels: verdictsOf(await proofOf(one, { backupId: backup })) }
  }
  t.match(await open.run('full'), { state: 'succeeded' })

  let last: Manifest | undefined
  await t.test('a chain, by a machine that has public keys alone', async (t) => {
    const one = await start(t, encryptingFor([ours], null))
    for (let count = 0; count < 2; count += 1) {
      await cluster.sql('insert into far select 1', 'app')
      const run = await one.run('incremental')
      t.match(run, { state: 'succeeded', items: [{ backupType: 'incremental' }, { backupType: 'incremental' }] })
    }
    const all = await one.manifests()
    last = all.at(-1)
    t.same(all.map(isEncrypted), [false, true, true])
    for (const name of await readdir(one.folder(last as Manifest, 'a'))) {
      const [a, b] = await Promise.all(
        ['a', 'b'].map((where) => readFile(join(one.folder(last as Manifest, where), name))),
      )
      t.ok(a?.equals(b ?? Buffer.alloc(0)), `${name} has the same bytes in every repository`)
      t.notOk(a?.includes(location), `${name} does not tell where tablespaces were`)
    }
    t.match(
      last?.artifacts.map(({ name }) => name),
      ['base.tar.zst.age', /^\d+\.tar\.zst\.age$/, 'backup_manifest.age', 'details.json.age', 'RESTORE.md'],
    )
    t.same(await one.leftovers(), [])
  })
  if (last === undefined) return t.fail('there is no backup')
  const { backupId } = last

  await t.test('verification without a key, with another one, and with the right one', async (t) => {
    t.same((await verified(t, null, backupId)).levels, { artifact: 'pass', restore: 'identity-missing' })
    t.match((await verified(t, null, backupId, 'artifact')).run, { state: 'succeeded' })
    const other = await verified(t, encryptingFor([others]), backupId)
    t.same(other.levels, { artifact: 'pass', restore: 'identity-mismatch' })
    t.match(other.run, { failure: { code: 'verification-inconclusive' } })
    const right = await verified(t, encryptingFor([ours]), backupId)
    t.match(right.run, { state: 'succeeded', failure: null })
    t.same(right.levels, { artifact: 'pass', restore: 'pass', data: 'pass' })
  })

  await t.test('restore', async (t) => {
    const to = join(await openDirectory(t), 'data')
    const oid = last?.physical?.tablespaces[0]?.oid
    const place = join(await openDirectory(t), 'far')
    const wish = wishParams({ to, backup: backupId, start: false, tablespaces: [[location, place]] })
    for (const [encryption, code] of [
      [null, 'identity-missing'],
      [encryptingFor([others]), 'identity-mismatch'],
    ] as const) {
      const one = await start(t, encryption)
      const run = await one.run('restore', wish)
      t.match(run, { state: 'failed', failure: { code } }, JSON.stringify(run.failure))
      t.notOk((await readdir(join(to, '..'))).includes('data'), 'nothing was touched')
    }
    const one = await start(t, encryptingFor([ours]))
    const run = await one.run('restore', wish)
    t.match(run, { state: 'succeeded', failure: null }, JSON.stringify(run.failure))
    t.ok((await readdir(place)).length > 0, `the tablespace ${oid} is there`)
  })

  await t.test('the manifest of the parent', async (t) => {
    await rm(join(open.directory, 'state', 'manifests'), { recursive: true })
    const keyless = await start(t, encryptingFor([ours], null))
    t.match(
      await keyless.run('incremental'),
      { state: 'succeeded', items: [{ backupType: 'full', warnings: [/no identity is configured/] }, {}] },
      'without it, and without a key, there is a full backup',
    )
    await rm(join(open.directory, 'state', 'manifests'), { recursive: true })
    const one = await start(t, encryptingFor([ours]))
    t.match(await one.run('incremental'), { state: 'succeeded', items: [{ backupType: 'incremental' }, {}] })
  })

  await t.test('a chain is put together, with a key', async (t) => {
    const one = await start(t, encryptingFor([others, ours], ours.file), {
      physical: { chainLimit: 2, consolidate: true },
    })
    const run = await one.run('incremental')
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    t.same(
      run.items.map(({ backupType }) => backupType),
      ['full', 'full', 'incremental', 'incremental'],
    )
    const made = (await one.manifests()).find(({ physical }) => physical?.madeFrom !== undefined)
    if (made === undefined) return t.fail('nothing was put together')
    const details = join(one.folder(made, 'b'), 'details.json.age')
    const { stdout } = await runProgram({ program: 'age', args: ['-d', '-i', others.file, details] })
    t.match(JSON.parse(stdout), { backupId: made.backupId, tablespaces: [{ path: location }] })
    t.same(await one.leftovers(), [])
  })

  await t.test('damage that a key would not show', async (t) => {
    const file = join(open.folder(last as Manifest, 'a'), 'base.tar.zst.age')
    await flipBit(file)
    for (const encryption of [null, encryptingFor([ours])])
      t.same((await verified(t, encryption, backupId)).levels, { artifact: 'checksum-mismatch' })
  })
})
