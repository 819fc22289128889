import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cli } from './support/cli.ts'
import { parseExposition } from './support/exposition.ts'
import { startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'
import { type Served, serve, serveTokens } from './support/serve.ts'
import { sidecarYaml } from './support/sidecar.ts'
import { untilAnswer } from './support/until.ts'

async function held(served: Served): Promise<number | undefined> {
  const text = await (await served.request('/metrics')).text()
  return parseExposition(text).find(({ name }) => name === 'lifeboat_lease_held')?.value
}

async function ended(served: Served, path: string, body: object): Promise<{ state?: string; failure?: unknown }> {
  const answer = await served.request(path, body)
  const { id } = (await answer.json()) as { id?: string }
  if (answer.status !== 202 || id === undefined) return { failure: answer.status }
  return untilAnswer('a run', async () => {
    const run = (await (await served.request(`/api/runs/${id}`)).json()) as { state: string; finishedAt: string | null }
    return run.finishedAt !== null && run
  })
}

t.test('two sidecars on one repository', { timeout: 240_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100) as i')
  const root = await scratchDirectory(t)
  const repositories = { local: join(root, 'repository') }
  const homes = await Promise.all(['one', 'two', 'three'].map(() => scratchDirectory(t)))
  const yamls = homes.map((home) =>
    sidecarYaml(cluster, home, {
      databases: ['app'],
      repositories,
      yaml: {
        auth: { tokens: serveTokens },
        log: { level: 'info' },
        lease: { ttl: '5s' },
        observe: { interval: '1s' },
      },
    }),
  )
  const up: Served[] = []
  t.teardown(() => Promise.all(up.map((one) => one.end('SIGKILL'))))
  const start = async (index: number) => {
    const served = await serve(homes[index] ?? '', yamls[index] ?? '')
    up.push(served)
    return served
  }

  const one = await start(0)
  t.equal(await held(one), undefined, 'nothing is written where nothing was: the first backup does')
  t.match(await ended(one, '/api/admin/backup', {}), { state: 'succeeded' })
  await untilAnswer('the lease of one', async () => (await held(one)) === 1)

  const two = await start(1)
  await untilAnswer('two sees it', async () => (await held(two)) === 0)
  const refused = await two.request('/api/admin/backup', {})
  t.equal(refused.status, 409)
  t.match(await refused.json(), { code: 'conflict', detail: /lease on the repository local is held by .*process \d+/ })
  t.match(await (await two.request('/api/jobs')).json(), {
    leases: [{ repository: 'local', state: 'waiting', holder: { pid: one.child.pid }, failure: null }],
  })
  t.match(await (await two.request('/')).text(), /Another lifeboat writes to .*local/)
  t.ok(two.lines.some(({ msg }) => /^standing by/.test(String(msg))))
  t.match(await ended(two, '/api/admin/verify', { level: 'artifact' }), { state: 'succeeded' }, 'looking is free')

  const file = join(homes[2] ?? '', 'lifeboat.yaml')
  await writeFile(file, yamls[2] ?? '', { mode: 0o600 })
  const checked = await cli(['check', '-c', file])
  t.match(checked.out, /local: another lifeboat writes to it: .*process \d+.*; one here would stand by/)
  const command = await cli(['backup', '-c', file])
  t.equal(command.code, 3)
  t.match(command.err, /waiting for the lease on local[\s\S]*held by/)
  t.equal((await cli(['expire', '-c', file])).code, 3)
  const dumps = await scratchDirectory(t)
  const watching = JSON.parse(yamls[2] ?? '') as object
  const watch = [{ directory: dumps, database: 'app', retention: {} }]
  await writeFile(file, JSON.stringify({ ...watching, watch }), { mode: 0o600 })
  const expired = await cli(['expire', '-c', file])
  t.match(expired, {
    code: 0,
    out: 'nothing had to go\n',
    err: /left out: the lease on the repository local is held by/,
  })
  const own = await cli(['backup', '-c', join(homes[0] ?? '', 'lifeboat.yaml')])
  t.equal(own.code, 0, 'a command on the state directory of the holder is the holder')

  one.child.kill('SIGSTOP')
  await untilAnswer('two takes over', async () => (await held(two)) === 1)
  t.match(await ended(two, '/api/admin/backup', {}), { state: 'succeeded' })
  one.child.kill('SIGCONT')
  await untilAnswer('one sees it', async () => (await held(one)) === 0)
  t.equal((await one.request('/api/admin/backup', {})).status, 409)
  t.match(
    one.lines.find(({ wasHeld }) => wasHeld === true),
    { msg: /^standing by/ },
  )

  await two.end('SIGTERM')
  await untilAnswer('one takes over at once', async () => (await held(one)) === 1)
  t.match(await ended(one, '/api/admin/backup', {}), { state: 'succeeded' })

  const again = await start(1)
  await one.end('SIGKILL')
  await untilAnswer('two takes over from a dead one', async () => (await held(again)) === 1)
  t.match(await ended(again, '/api/admin/backup', {}), { state: 'succeeded' })
  await rm(join(root, 'repository', 'test', 'leases'), { recursive: true })
  t.match(await ended(again, '/api/admin/backup', {}), { state: 'succeeded' }, 'one that was removed is taken again')
  const { backups } = (await (await again.request('/api/backups')).json()) as { backups: unknown[] }
  t.ok(backups.length >= 5)
})
