import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import type { Proof } from '../../src/domain/proof.ts'
import { findInstallations } from '../../src/postgres/installations.ts'
import { createAwkwardDatabase } from '../support/awkward.ts'
import { startCluster } from '../support/postgres.ts'
import { busyBackend, listeningPorts, processes } from '../support/processes.ts'
import { noSmallDisk, openDirectory, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { mainFile, processesOf, startSidecar } from '../support/sidecar.ts'
import { killPrograms } from '../support/stall.ts'
import { copyRepository } from '../support/tamper.ts'

for (const major of [15, 17] as const) {
  t.test(`all that a database can hold, on PostgreSQL ${major}`, { timeout: 100_000 }, async (t) => {
    const cluster = await startCluster(t, { major, superuser: 'the "boss"' })
    await createSampleDatabase(cluster.source, { name: 'app', scale: 0.05 })
    await cluster.sql(`alter database app connection limit 7`)
    await createAwkwardDatabase(cluster, '-it\'s "odd"\n美')
    await cluster.createDatabase('empty')
    const sidecar = await startSidecar(t, cluster)
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    if (major === 17 && (await findInstallations(null)).every((one) => one.major < 17)) {
      const { host, port, user } = cluster.source
      const old = await startSidecar(t, cluster, {
        yaml: { postgres: { host, port, user, sslMode: 'disable' } },
        repositories: { local: await copyRepository(t, sidecar) },
      })
      t.match(
        await old.run('dump'),
        {
          state: 'failed',
          items: [],
          failure: {
            code: 'client-too-old',
            message: /the server is PostgreSQL 17, .* 15\./,
            hint: /postgresql-client-17/,
          },
        },
        'refused before anything starts',
      )
      const unknown = await old.run('verify', { database: 'empty' })
      t.match(unknown, { failure: { code: 'verification-inconclusive', message: /program-missing/ } })
    }
    await cluster.server.stop() // nothing of this may need the server that was backed up
    const run = await sidecar.run('verify')
    t.match(run, { state: 'succeeded', failure: null }, JSON.stringify(run.failure))
    t.same(run.items.map(({ database, verdict }) => `${database} ${verdict}`).sort(), [
      '-it\'s "odd"\n美 pass',
      'app pass',
      'empty pass',
      'postgres pass',
    ])
    for (const manifest of await sidecar.manifests()) {
      const proof = (await sidecar.repository.latestProof(manifest.backupId)) as Proof
      t.match(proof, { level: 'data', manifestChecksum: manifest.checksum, serverVersion: manifest.serverVersion })
      t.same(Object.keys(proof.levels), ['artifact', 'restore', 'data'])
      for (const phase of ['fetch', 'initdb', 'start', 'globals', 'restore', 'fingerprint', 'amcheck'])
        t.ok((proof.phases[phase] ?? 0) > 0, phase)
      const compression = major === 15 ? '--compress=1' : '--compress=zstd:3'
      t.ok(manifest.producer.options.includes(compression), manifest.producer.options.join(' '))
    }
    t.same(await sidecar.leftovers(), [])
  })
}

t.test('in the middle of a verification', { timeout: 150_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table users as select i as id from generate_series(1, 100) i')
  const source = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await source.run('dump'), { state: 'succeeded' })
  const hanging = { name: 'never ends', database: 'app', sql: 'select pg_sleep(600)', expect: null }
  const hang = { verification: { assertions: [hanging] } }
  const start = async (t: Parameters<typeof startSidecar>[0], options: Parameters<typeof startSidecar>[2] = {}) =>
    startSidecar(t, cluster, { repositories: { local: await copyRepository(t, source) }, ...options })

  t.test('assertions', async (t) => {
    const expectations = [
      ['count', 'select count(*) from users', 100, 'pass'],
      ['text', `select 'a b'`, 'a b', 'pass'],
      ['yes', 'select exists (select from users)', true, 'pass'],
      ['nothing', 'select null', null, 'pass'],
      ['no row', 'select 1 where false', null, 'pass'],
      ['numeric', 'select 1.50::numeric', 1.5, 'pass'],
      ['json', `select '{"a":1}'::jsonb`, '{"a":1}', 'pass'],
      ['other count', 'select count(*) from users', 99, 'fail'],
      ['zero is not no', 'select 0', false, 'fail'],
      ['null is not zero', 'select null::int', 0, 'fail'],
      ['text is not yes', `select 'true'`, true, 'fail'],
      ['yes is not one', 'select true', 1, 'fail'],
      ['blank is not zero', `select ''`, 0, 'fail'],
      ['no such table', 'select count(*) from "no such"', 1, 'fail'],
      ['read only', 'delete from users returning 1', 1, 'fail'],
    ] as const
    const assertions = expectations.map(([name, sql, expect]) => ({ name, sql, expect, database: 'app' }))
    const other = { name: 'other', sql: 'select 1', expect: 2, database: 'another database' }
    const sidecar = await start(t, { yaml: { verification: { assertions: [...assertions, other] } } })
    const run = await sidecar.run('verify')
    t.match(run, { state: 'failed', failure: { code: 'verification-failed', message: /got "100" instead of 99/ } })
    const [manifest] = await sidecar.manifests()
    const proof = await sidecar.repository.latestProof(manifest?.backupId ?? '')
    const checks = proof?.levels.data?.checks.filter(({ name }) => name.startsWith('assertion '))
    t.same(
      checks?.map(({ name, verdict }) => [name, verdict]),
      expectations.map(([name, , , verdict]) => [`assertion ${name}`, verdict]),
    )
  })

  t.test('one that hangs is ended with the run; nothing listens; nothing is left', async (t) => {
    const sidecar = await start(t, { yaml: hang })
    const { id, ended } = sidecar.begin('verify')
    const { parent } = await busyBackend(sidecar.config.workDir, 'app', ended)
    t.same(await listeningPorts(parent), [])
    const user = (await processes()).find(({ pid }) => pid === parent)
    t.ok(user)
    sidecar.core.runner.cancel(id)
    t.match(await ended, { state: 'cancelled', items: [] })
    t.same(await sidecar.leftovers(), [])
    const [manifest] = await sidecar.manifests()
    t.equal(await sidecar.repository.latestProof(manifest?.backupId ?? ''), null, 'no proof of half a look')
    // The timers of the limit for one backup go on as ever: it is the run whose time is over.
    let passed = 0
    const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + passed }
    const limited = await start(t, { yaml: hang, clock })
    const { ended: late } = limited.begin('verify')
    await busyBackend(limited.config.workDir, 'app', late)
    passed = limited.config.verification.timeoutSeconds * 1000
    t.match(await late, { state: 'failed', failure: { code: 'timed-out' } })
    t.same(await limited.leftovers(), [])
  })

  t.test('a scratch server that is killed proves nothing', async (t) => {
    const sidecar = await start(t, { yaml: hang })
    const { ended } = sidecar.begin('verify')
    await busyBackend(sidecar.config.workDir, 'app', ended)
    await killPrograms('postgres', sidecar.config.workDir)
    t.match(await ended, {
      state: 'failed',
      failure: { code: 'verification-inconclusive' },
      items: [{ verdict: 'inconclusive' }],
    })
    const [manifest] = await sidecar.manifests()
    const proof = await sidecar.repository.latestProof(manifest?.backupId ?? '')
    t.match(proof?.levels.data, { verdict: 'inconclusive', cause: 'scratch-server-lost' })
    t.same(await sidecar.leftovers(), [])
  })

  t.test('a killed sidecar leaves nothing after the next start', async (t) => {
    const sidecar = await start(t, { yaml: hang })
    const file = join(sidecar.directory, 'lifeboat.yaml')
    await writeFile(file, sidecar.yaml, { mode: 0o600 })
    await mkdir(join(sidecar.config.workDir, 'not-ours'), { recursive: true })
    // Of its own: others come and go in the one of the machine.
    const temporary = await openDirectory(t)
    const child = spawn(process.execPath, [mainFile, 'verify', '--config', file], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, TMPDIR: temporary },
    })
    const exited = once(child, 'exit')
    await busyBackend(sidecar.config.workDir, 'app', exited)
    child.kill('SIGKILL')
    await exited
    t.ok((await processesOf(sidecar.config.workDir)).length > 0, 'the scratch server survived')
    const next = await startSidecar(t, cluster, { directory: sidecar.directory })
    await next.core.tidy()
    t.same(await next.leftovers(), ['not-ours'])
    t.same(await readdir(temporary), [])
    const [killed] = next.core.runner.list({ limit: 1 })
    t.match(killed, { state: 'failed', failure: { code: 'interrupted' } })
  })

  t.test('a folder of somebody else is none of our business', async (t) => {
    const sidecar = await start(t)
    const names = ['holiday-pictures', '20200101T000000Z-verify-abcdef', '.hidden']
    for (const name of names) await mkdir(join(sidecar.config.workDir, name), { recursive: true })
    await sidecar.core.tidy()
    t.same((await readdir(sidecar.config.workDir)).sort(), [...names].sort(), 'unknown runs may be of another sidecar')
  })

  t.test('disk full', async (t) => {
    const disk = await smallDisk(t, 120 * 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    const sidecar = await start(t, { yaml: { workDir: disk.directory } })
    const run = await sidecar.run('verify')
    t.match(run, {
      state: 'failed',
      failure: { code: 'verification-inconclusive' },
      items: [{ verdict: 'inconclusive' }],
    })
    const [manifest] = await sidecar.manifests()
    const proof = await sidecar.repository.latestProof(manifest?.backupId ?? '')
    t.match(proof?.levels.restore, { verdict: 'inconclusive', cause: 'disk-full' })
    t.same(await readdir(disk.directory), [])
  })

  t.test('an index that lies', async (t) => {
    // "Immutable" it is not: what amcheck computes anew is not what the index holds.
    await cluster.createDatabase(
      'corrupt',
      `create table t as select i from generate_series(1, 50) i;
       create function lies(i int) returns double precision immutable language plpgsql as $$ begin return random(); end $$;
       create index on t (lies(i))`,
    )
    const sidecar = await startSidecar(t, cluster, { databases: ['corrupt'] })
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    const run = await sidecar.run('verify')
    t.match(run, { state: 'failed', failure: { code: 'verification-failed', message: /corruption.*t_lies_idx/ } })
    const [manifest] = await sidecar.manifests()
    const proof = await sidecar.repository.latestProof(manifest?.backupId ?? '')
    t.match(proof?.levels.data, { verdict: 'fail', cause: 'corruption' })
    t.notMatch(proof?.levels.data?.checks, [{ name: 'rows', verdict: 'fail' }])
  })

  t.test('what there is to verify', async (t) => {
    const sidecar = await start(t)
    t.match(await sidecar.run('verify', { backup: 'x/../y' }), { failure: { code: 'usage-invalid' } })
    t.match(await sidecar.run('verify', { backup: '20200101T000000Z-dump-abcdef' }), { failure: { code: 'not-found' } })
    t.match(await sidecar.run('verify', { repository: 'no such' }), { failure: { code: 'not-found', hint: /local/ } })
    t.match(await sidecar.run('verify', { database: 'no such' }), { failure: { code: 'not-found' } })
    t.match(await sidecar.run('verify', { level: 'deep' }), { failure: { code: 'usage-invalid' } })
    const directory = await scratchDirectory(t)
    await writeFile(join(directory, 'file'), '')
    const half = await start(t, {
      repositories: { bad: join(directory, 'file'), good: await copyRepository(t, source) },
    })
    const run = await half.run('verify', { level: 'artifact' })
    t.match(run, { state: 'failed', items: [{ repository: 'good', verdict: 'pass' }] }, 'the good one is looked at')
  })
})
