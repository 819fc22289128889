import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { makeToken } from '../../src/http/tokens.ts'
import { freePort, startCluster } from '../support/postgres.ts'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { mainFile, processesOf, startSidecar } from '../support/sidecar.ts'
import { noSessions, stall } from '../support/stall.ts'

t.test('killed, and out of space', { timeout: 200_000 }, async (t) => {
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'app', scale: 0.3 })

  t.test('kill -9 at any moment', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    const file = join(sidecar.directory, 'lifeboat.yaml')
    await writeFile(file, sidecar.yaml, { mode: 0o600 })
    const begun = performance.now()
    t.match(await once(spawn(process.execPath, [mainFile, 'backup', '-c', file], { stdio: 'ignore' }), 'exit'), [0])
    const whole = performance.now() - begun
    let complete = (await sidecar.manifests()).map(({ backupId }) => backupId)
    t.equal(complete.length, 1)
    const kills = 10
    let unfinished = 0
    for (let kill = 0; kill < kills; kill += 1) {
      const child = spawn(process.execPath, [mainFile, 'backup', '-c', file], { stdio: 'ignore' })
      // Each starts as a new process would, and must clear away what the one before it left.
      await Promise.race([once(child, 'exit'), delay(whole * (0.25 + (0.8 * kill) / kills))])
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      const now = (await sidecar.manifests()).map(({ backupId }) => backupId)
      t.same(
        complete.filter((id) => !now.includes(id)),
        [],
        'a complete backup never disappears',
      )
      if (now.length === complete.length) unfinished += 1
      complete = now
    }
    t.ok(unfinished > 2, `${unfinished} were cut off`)
    const next = await startSidecar(t, cluster, { databases: ['app'], directory: sidecar.directory })
    await next.core.tidy()
    t.same(await next.leftovers(), [])
    await noSessions(cluster)
    t.same(
      (await next.manifests()).map(({ backupId }) => backupId),
      complete,
    )
    for (const { backupId } of await next.manifests())
      t.match(await next.run('verify', { backup: backupId, level: 'artifact' }), { state: 'succeeded' })
    t.match(
      next.core.runner.list({ limit: 100 }).filter(({ state }) => state === 'running'),
      [],
    )
  })

  t.test('SIGTERM ends the sidecar in order, also during a dump', async (t) => {
    const port = await freePort()
    const { token, sha256 } = makeToken(randomBytes)
    const sidecar = await startSidecar(t, cluster, {
      databases: ['app'],
      yaml: {
        listen: `127.0.0.1:${port}`,
        log: { level: 'info' },
        auth: { tokens: [{ name: 'test', role: 'admin', sha256 }] },
      },
    })
    const file = join(sidecar.directory, 'lifeboat.yaml')
    await writeFile(file, sidecar.yaml, { mode: 0o600 })
    const served = spawn(process.execPath, [mainFile, 'serve', '-c', file], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => served.kill('SIGKILL'))
    for await (const line of createInterface(served.stdout)) if (line.includes('lifeboat is up')) break
    served.stdout.resume()
    const held = await stall(cluster, 'app', 'pg_ts_template')
    const response = await fetch(`http://127.0.0.1:${port}/api/admin/backup`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
    })
    t.equal(response.status, 202)
    const id = response.headers.get('location')?.split('/').at(-1) ?? ''
    await held.waiting(sidecar.core.runner.wait(id), '%pg_ts_template%')
    const begun = performance.now()
    served.kill('SIGTERM')
    t.same(await once(served, 'exit'), [0, null])
    t.ok(performance.now() - begun < 10_000, 'within seconds')
    t.match(sidecar.core.runner.get(id), { state: 'failed', failure: { code: 'interrupted' } })
    await held.release()
    t.same(await sidecar.leftovers(), [])
    await noSessions(cluster)
  })

  t.test('two at once on one state directory', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    const other = await startSidecar(t, cluster, { databases: ['app'], directory: sidecar.directory })
    const held = await stall(cluster, 'app', 'pg_ts_template')
    const { ended, id } = sidecar.begin('dump')
    await held.waiting(ended, '%pg_ts_template%')
    await other.core.tidy()
    t.throws(() => other.begin('dump'), { code: 'conflict', details: { runId: id } })
    const waiting = other.begin('dump', { database: 'app' })
    t.equal(other.core.runner.get(waiting.id)?.state, 'queued')
    await held.release()
    t.match(await ended, { state: 'succeeded' }, 'the clean-up of the other left it alone')
    t.match(await waiting.ended, { state: 'succeeded' })
    t.equal((await sidecar.manifests()).length, 2)
    t.same(await sidecar.leftovers(), [])
  })

  t.test('disk full while it is dumped', async (t) => {
    const disk = await smallDisk(t, 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    const sidecar = await startSidecar(t, cluster, { databases: ['app'], yaml: { workDir: disk.directory } })
    const run = await sidecar.run('dump')
    t.match(run, { state: 'failed', failure: { code: 'disk-full', hint: /workDir/ } }, JSON.stringify(run.failure))
    t.same(await sidecar.leftovers(), [])
    t.same(await sidecar.manifests(), [])
    await disk.resize(64 * 1024 * 1024)
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
  })

  t.test('disk full while it is stored', async (t) => {
    const disk = await smallDisk(t, 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    const directory = t.testdir({ good: {} })
    const sidecar = await startSidecar(t, cluster, {
      databases: ['app'],
      repositories: { full: disk.directory, good: join(directory, 'good') },
    })
    const run = await sidecar.run('dump')
    t.match(run, {
      state: 'failed',
      failure: { code: 'disk-full' },
      items: [
        { repository: 'good', outcome: 'succeeded' },
        { repository: 'full', outcome: 'failed', failure: { code: 'disk-full' } },
      ],
    })
    t.same(await sidecar.leftovers(), [])
    t.same(await processesOf(sidecar.config.workDir), [])
    await disk.resize(64 * 1024 * 1024)
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
  })
})
