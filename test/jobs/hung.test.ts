import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startCluster } from '../support/postgres.ts'
import { processes } from '../support/processes.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startSidecar } from '../support/sidecar.ts'

/** Ignores SIGTERM, as its children do, one of which leaves the process group; then prints a gigabyte, and hangs. */
const hungProgram = (real: string) => `#!/bin/bash
for arg; do [ "$arg" = --version ] && exec ${real} --version; done
trap '' TERM INT HUP
sleep 987654 &
setsid sleep 987655 &
head -c 512M /dev/zero >&2
yes 'half a gigabyte of this' | head -c 512M
while :; do sleep 987656; done
`

t.test('a pg_dump that cannot be talked to', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100) as x')
  const binDir = join(await scratchDirectory(t), 'bin')
  await mkdir(binDir)
  const real = cluster.installation.directory
  for (const name of await readdir(real)) if (name !== 'pg_dump') await symlink(join(real, name), join(binDir, name))
  await writeFile(join(binDir, 'pg_dump'), hungProgram(join(real, 'pg_dump')))
  await chmod(join(binDir, 'pg_dump'), 0o755)

  const good = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await good.run('dump'), { state: 'succeeded' })
  const timeoutSeconds = 20
  const sidecar = await startSidecar(t, cluster, {
    directory: good.directory,
    databases: ['app'],
    adjust: (config) => ({
      ...config,
      postgres: { ...config.postgres, binDir },
      dump: { ...config.dump, timeoutSeconds },
    }),
  })
  const before = process.resourceUsage().maxRSS
  const begun = performance.now()
  const { id, ended } = sidecar.begin('dump')
  const queued = sidecar.begin('dump', { database: 'app' })
  for (;;) {
    if ((await processes()).some(({ command }) => command.includes('sleep 987654'))) break
    if (sidecar.core.runner.get(id)?.finishedAt) throw new Error('it ended before it hung')
    await delay(20)
  }
  t.match(sidecar.core.runner.get(id), { state: 'running' })
  t.match(await sidecar.run('verify', { level: 'data' }), { state: 'succeeded' }, 'another lane goes on')
  t.match(await sidecar.run('expire'), { state: 'succeeded' })
  t.match(sidecar.core.runner.get(queued.id), { state: 'queued' }, 'its own lane waits')
  t.match(await ended, { state: 'failed', failure: { code: 'timed-out' }, items: [{ outcome: 'failed' }] })
  const seconds = (performance.now() - begun) / 1000
  t.ok(seconds < timeoutSeconds + 12, `ended ${(seconds - timeoutSeconds).toFixed(1)} s after its timeout`)
  t.ok(process.resourceUsage().maxRSS - before < 300 * 1024, 'what it printed was not kept')
  sidecar.core.runner.cancel(queued.id)
  t.match(await queued.ended, { state: 'cancelled' }, 'the next one can be cancelled too')
  t.same(await sidecar.leftovers(), [])
  const left = (await processes()).filter(({ command }) => /sleep 98765\d/.test(command))
  t.same(left, [], 'nor what it had forked, in its group or out of it')
  t.equal((await sidecar.manifests()).length, 1)
})
