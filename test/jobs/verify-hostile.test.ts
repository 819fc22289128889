import { copyFile, mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Proof } from '../../src/domain/proof.ts'
import { freeBytes } from '../../src/jobs/work-folder.ts'
import { quoteLiteral } from '../../src/postgres/conninfo.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { longSleeps } from '../support/long-sleeps.ts'
import { installationOf, startCluster } from '../support/postgres.ts'
import { busyBackend, processes } from '../support/processes.ts'
import { noSmallDisk, scratchDirectory, smallDisk, unmount } from '../support/scratch.ts'
import { type Sidecar, type SidecarOptions, startSidecar } from '../support/sidecar.ts'
import { killPrograms } from '../support/stall.ts'
import { copyRepository, folderIn, forge } from '../support/tamper.ts'

t.test('what must not take a verdict for itself', { timeout: 280_000 }, async (t) => {
  const cluster = await startCluster(t, { settings: { autovacuum: 'on' } })
  await cluster.createDatabase('app', 'create table users as select i as id from generate_series(1, 100) i')
  const source = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await source.run('dump'), { state: 'succeeded' })
  const [manifest] = await source.manifests()
  if (manifest === undefined) return t.fail('there is no backup')

  const hang = {
    verification: { assertions: [{ name: 'slow', database: 'app', sql: 'select pg_sleep(1)', expect: '' }] },
  }
  const start = async (t: Test, options: SidecarOptions = {}) =>
    startSidecar(t, cluster, { repositories: { local: await copyRepository(t, source) }, ...options })
  const proofOf = async (sidecar: Sidecar) => (await sidecar.repository.latestProof(manifest.backupId)) as Proof

  /** A database whose restore runs statements as the scratch server's superuser: any owner of a table can have that. */
  const trapped = async (t: Test, name: string, statements: string, options: SidecarOptions = {}) => {
    await cluster.createDatabase(
      name,
      `create function trap(i int) returns boolean language plpgsql as $trap$ begin
         if current_setting('autovacuum') = 'off' then ${statements} end if; return true; end $trap$;
       create table t (i int check (trap(i))); insert into t values (1)`,
    )
    const sidecar = await startSidecar(t, cluster, { databases: [name], ...options })
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    return sidecar
  }

  t.test('code in a dump', async (t) => {
    const open = await scratchDirectory(t)
    await runProgram({ program: 'chmod', args: ['1777', open] })
    const mark = `9${process.pid}`
    const script = [
      `id -un > ${open}/user`,
      `env > ${open}/env`,
      `cat /proc/*/environ | tr "\\0" "\\n" > ${open}/environs 2>/dev/null`,
      `(cd /; setsid env -i /bin/sleep ${mark} >/dev/null 2>&1 &)`,
    ].join('; ')
    process.env.LIFEBOAT_TEST_CANARY = 'tweet'
    const sidecar = await trapped(
      t,
      'hostile',
      `execute ${quoteLiteral(`copy (select 1) to program ${quoteLiteral(script)}`)};`,
    )
    const run = await sidecar.run('verify')
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    if (userInfo().uid === 0) t.equal((await readFile(join(open, 'user'), 'utf8')).trim(), 'nobody')
    t.notMatch(await readFile(join(open, 'env'), 'utf8'), /LIFEBOAT_TEST_CANARY/)
    t.notMatch(await readFile(join(open, 'environs'), 'utf8'), /LIFEBOAT_TEST_CANARY/)
    const [{ backupId } = manifest] = await sidecar.manifests()
    const proof = await sidecar.repository.latestProof(backupId)
    const detail = proof?.levels.restore?.checks.find(({ name }) => name === 'preflight')?.detail ?? ''
    t.match(detail, /^scratch server.* namespaces of its own/)
    if (/without/.test(detail)) await runProgram({ program: 'pkill', args: ['-f', `/bin/sleep ${mark}`] })
    else
      t.same(
        (await processes()).filter(({ command }) => command === `/bin/sleep ${mark}`),
        [],
      )
    t.same(await sidecar.leftovers(), [])
  })

  t.test('a umask that leaves others nothing', async (t) => {
    const sidecar = await start(t, { yaml: { workDir: join(await scratchDirectory(t), 'work') } })
    const before = process.umask(0o077)
    t.teardown(() => process.umask(before))
    t.match(await sidecar.run('verify'), { state: 'succeeded' })
    t.match(await proofOf(sidecar), { levels: { restore: { verdict: 'pass' } } })
  })

  t.test('programs and servers that are killed', async (t) => {
    const sidecar = await trapped(t, 'slow', 'perform pg_sleep(600);')
    const [{ backupId } = manifest] = await sidecar.manifests()
    const killed: Record<string, { kill: () => Promise<unknown>; cause: string }> = {
      'all of pg_restore': { kill: () => killPrograms('pg_restore', sidecar.config.workDir), cause: 'program-killed' },
      'a worker of pg_restore': { kill: () => killWorker(sidecar.config.workDir), cause: 'program-killed' },
      'the server': { kill: () => killPrograms('postgres', sidecar.config.workDir), cause: 'scratch-server-lost' },
    }
    for (const [what, { kill, cause }] of Object.entries(killed)) {
      const { ended } = sidecar.begin('verify')
      await copying(sidecar.config.workDir, 'slow', ended)
      await kill()
      t.match(
        await ended,
        { failure: { code: 'verification-inconclusive' }, items: [{ verdict: 'inconclusive' }] },
        what,
      )
      const proof = await sidecar.repository.latestProof(backupId)
      t.match(proof?.levels.restore, { verdict: 'inconclusive', cause }, what)
      t.same(await sidecar.leftovers(), [])
    }
  })

  t.test('a restore that never ends keeps no other from being verified', async (t) => {
    const { clock, endThem } = longSleeps()
    await cluster.createDatabase('last', "create table t as select 'x' || i as x from generate_series(1, 9999) i")
    const endless = await trapped(t, 'endless', 'loop end loop;')
    const { directory } = endless
    const sidecar = await startSidecar(t, cluster, { directory, databases: ['endless', 'last'], clock })
    t.match(await sidecar.run('dump', { database: 'last' }), { state: 'succeeded' })
    const { ended } = sidecar.begin('verify')
    await copying(sidecar.config.workDir, 'endless', ended)
    endThem()
    const run = await ended
    t.match(run, {
      failure: { code: 'verification-inconclusive', message: /timed-out \(restore: given up after/ },
      items: [
        { database: 'endless', verdict: 'inconclusive' },
        { database: 'last', verdict: 'pass' },
      ],
    })
    const proof = await sidecar.repository.latestProof(run.items[0]?.backupId ?? '')
    t.match(proof?.levels, { artifact: { verdict: 'pass' }, restore: { verdict: 'inconclusive', cause: 'timed-out' } })
    t.same(await sidecar.leftovers(), [])
  })

  t.test('a restore that fills the disk', async (t) => {
    const size = 450 * 1024 * 1024
    const disk = await smallDisk(t, size)
    if (disk === null) return t.comment(noSmallDisk)
    const workDir = join(disk.directory, 'work')
    const sidecar = await trapped(t, 'growing', 'perform pg_sleep(600);', { yaml: { workDir } })
    const [{ backupId } = manifest] = await sidecar.manifests()
    const { ended } = sidecar.begin('verify')
    await copying(workDir, 'growing', ended)
    await disk.resize(size - (await freeBytes(workDir)) + 64 * 1024 * 1024)
    t.match(await ended, { failure: { code: 'verification-inconclusive' } })
    const restore = (await sidecar.repository.latestProof(backupId))?.levels.restore
    t.match(restore, { verdict: 'inconclusive', cause: 'disk-full' })
    t.match(restore?.checks.at(-1)?.detail, /^stopped when .* bytes free, of which \d+ are left alone/)
    t.same(await sidecar.leftovers(), [])
  })

  t.test('a server that cannot start', async (t) => {
    const { host, port, user } = cluster.source
    const postgres = { host, port, user, sslMode: 'disable' }
    const binDir = await scratchDirectory(t)
    const { directory } = await installationOf(15)
    for (const name of await readdir(directory)) {
      await symlink(name === 'initdb' ? '/bin/false' : join(directory, name), join(binDir, name))
    }
    const broken = await start(t, { yaml: { postgres: { ...postgres, binDir } } })
    t.match(await broken.run('verify'), {
      failure: { code: 'verification-inconclusive' },
      items: [{ verdict: 'inconclusive' }],
    })
    t.match((await proofOf(broken)).levels.restore, { cause: 'scratch-server-failed' })
    if (userInfo().uid !== 0) return
    const harmful = await start(t, { yaml: { verification: { osUser: 'postgres' } } })
    t.match(await harmful.run('verify'), {
      failure: { code: 'verification-inconclusive', message: /postgres, who owns .*\.s\.PGSQL\./ },
      items: [{ verdict: 'inconclusive' }],
    })
    t.match((await proofOf(harmful)).levels.restore, { cause: 'scratch-server-unusable' })
  })

  t.test('artifacts that are replaced meanwhile', async (t) => {
    for (const name of ['dump.tar', 'RESTORE.md', 'manifest.json']) {
      const sidecar = await start(t, { yaml: hang })
      const { ended } = sidecar.begin('verify')
      await busyBackend(sidecar.config.workDir, 'app', ended)
      const path = join(sidecar.folder(manifest), name)
      await copyFile(path, `${path}.new`)
      await rename(`${path}.new`, path)
      t.match(await ended, {
        failure: { code: 'verification-failed', message: new RegExp(`artifact-changed.*${name}`) },
      })
      const proof = await proofOf(sidecar)
      t.match(
        proof.levels,
        { artifact: { verdict: 'fail', cause: 'artifact-changed' }, data: { verdict: 'pass' } },
        name,
      )
      t.match(await sidecar.run('verify', { level: 'artifact' }), { state: 'succeeded' }, 'the new bytes are looked at')
    }
    const sidecar = await start(t, { yaml: hang })
    const { ended } = sidecar.begin('verify')
    await busyBackend(sidecar.config.workDir, 'app', ended)
    await sidecar.repository.removeBackup(manifest.backupId)
    t.match(await ended, { state: 'failed', failure: { code: 'manifest-missing' } })
    t.equal(await sidecar.repository.latestProof(manifest.backupId), null, 'what is gone has no proof')
  })

  t.test('a folder that cannot be removed', async (t) => {
    const sidecar = await start(t, { yaml: hang })
    const { ended, id } = sidecar.begin('verify')
    const backend = await busyBackend(sidecar.config.workDir, 'app', ended)
    t.ok(backend)
    const busy = join(sidecar.config.workDir, id, `local-${manifest.backupId}`, 'scratch', 'busy')
    await mkdir(busy)
    const mounted = await runProgram({ program: 'mount', args: ['-t', 'tmpfs', 'tmpfs', busy] }).then(
      () => true,
      () => false,
    )
    if (!mounted) {
      await ended
      return t.comment(noSmallDisk)
    }
    const run = await ended
    await unmount(busy)
    t.match(run, { state: 'succeeded', items: [{ verdict: 'pass' }] }, JSON.stringify(run.failure))
    t.match((await proofOf(sidecar)).levels.data, { verdict: 'pass' })
    t.ok(sidecar.lines.some(({ msg }) => /could not be removed/.test(String(msg))))
    await sidecar.core.tidy()
    t.same(await readdir(sidecar.config.workDir), [])
  })

  t.test('artifacts that do not fit in memory', async (t) => {
    for (const name of ['globals.sql', 'fingerprint.json']) {
      const repository = await copyRepository(t, source)
      const folder = folderIn(repository, manifest)
      await truncate(join(folder, name), 64 * 1024 * 1024 + 1)
      await forge(folder, manifest, {})
      const sidecar = await start(t, { repositories: { local: repository } })
      t.match(await sidecar.run('verify', { level: 'artifact' }), { state: 'succeeded' }, 'its bytes are right')
      for (const rehash of [true, false]) {
        t.match(await sidecar.run('verify', { rehash }), { failure: { code: 'verification-inconclusive' } })
        const { levels } = await proofOf(sidecar)
        t.match(levels, {
          artifact: { verdict: 'pass' },
          restore: { verdict: 'inconclusive', cause: 'artifact-too-large' },
        })
      }
    }
  })

  t.test('members of dump.tar that are no files', async (t) => {
    const secret = join(await scratchDirectory(t), 'secret')
    await writeFile(secret, 'secret')
    const members: Record<string, (path: string) => Promise<unknown>> = {
      'a symbolic link': (path) => runProgram({ program: 'ln', args: ['-s', secret, path] }),
      'a link that leads nowhere': (path) => runProgram({ program: 'ln', args: ['-s', '/nonexistent', path] }),
      'a hard link': async (path) => {
        await writeFile(path, '')
        await runProgram({ program: 'ln', args: [path, `${path}.other`] })
      },
      'a FIFO': (path) => runProgram({ program: 'mkfifo', args: [path] }),
      ...(userInfo().uid === 0
        ? { 'a device': (path: string) => runProgram({ program: 'mknod', args: [path, 'c', '1', '5'] }) }
        : {}),
    }
    for (const [what, make] of Object.entries(members)) {
      const repository = await copyRepository(t, source)
      const folder = folderIn(repository, manifest)
      const unpacked = join(await scratchDirectory(t), 'dump')
      await mkdir(join(unpacked, 'deep'), { recursive: true })
      await runProgram({ program: 'tar', args: ['-xf', join(folder, 'dump.tar'), '-C', unpacked] })
      const data = (await readdir(unpacked)).find((name) => name.endsWith('.dat.gz')) ?? ''
      // What pg_restore would open, and what it would not.
      for (const [place, level] of [
        [data, 'data'],
        [join('deep', 'member'), 'artifact'],
      ] as const) {
        const path = join(unpacked, place)
        await rm(path, { force: true })
        await make(path)
        await runProgram({ program: 'tar', args: ['-cf', `${unpacked}.tar`, '-C', unpacked, '.'] })
        await forge(folder, manifest, { 'dump.tar': await readFile(`${unpacked}.tar`) })
        const sidecar = await start(t, { repositories: { local: repository } })
        t.match(await sidecar.run('verify', { level }), { failure: { code: 'verification-failed' } }, what)
        t.match((await proofOf(sidecar)).levels.artifact, { verdict: 'fail', cause: 'archive-broken' }, what)
        const run = await sidecar.run('restore', { backup: manifest.backupId, target: 'new' })
        t.match(run, { failure: { code: 'artifact-invalid', message: /neither a directory nor a file/ } }, what)
        await rm(path)
        await rm(`${path}.other`, { force: true })
      }
    }
  })
})

/** Resolves when a session of the scratch server copies rows. */
async function copying(workDir: string, database: string, work: Promise<unknown>): Promise<void> {
  let ended = false
  void work.then(() => {
    ended = true
  })
  const title = new RegExp(` ${database} \\[local\\] COPY`)
  for (;;) {
    if (ended) throw new Error('it ended before')
    const all = await processes()
    if (all.some(({ command }) => title.test(command)) && all.some(({ command }) => command.includes(workDir))) return
    await delay(20)
  }
}

/** Sends SIGKILL to one worker, whose parent is a pg_restore too. */
async function killWorker(workDir: string): Promise<void> {
  const all = (await processes()).filter(({ command }) => /\/pg_restore /.test(command) && command.includes(workDir))
  const parents = new Set(all.map(({ pid }) => pid))
  const [worker] = all.filter(({ parent }) => parents.has(parent))
  if (worker === undefined) throw new Error('pg_restore has no worker')
  process.kill(worker.pid, 'SIGKILL')
}
