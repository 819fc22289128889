import { cp, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cli } from './support/cli.ts'
import { startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'
import { type Served, serve, serveTokens } from './support/serve.ts'
import { sidecarYaml } from './support/sidecar.ts'
import { untilAnswer } from './support/until.ts'

interface Shown {
  readonly leases: readonly { readonly repository: string; readonly state: string }[]
}

async function leases(served: Served): Promise<Record<string, string>> {
  const { leases } = (await (await served.request('/api/jobs')).json()) as Shown
  return Object.fromEntries(leases.map(({ repository, state }) => [repository, state]))
}

interface Ended {
  readonly state: string
  readonly finishedAt: string | null
  readonly items: readonly { readonly repository: string; readonly outcome: string }[]
}

/** The verdict, and the repositories that were written to. */
async function run(served: Served, path: string): Promise<string> {
  const { id } = (await (await served.request(path, {})).json()) as { id: string }
  const { state, items } = await untilAnswer('a run', async () => {
    const one = (await (await served.request(`/api/runs/${id}`)).json()) as Ended
    return one.finishedAt !== null && one
  })
  return [state, ...items.map(({ repository, outcome }) => `${repository} ${outcome}`)].join(', ')
}

t.test('each of two sidecars has the lease on one of two repositories', { timeout: 180_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100) as i')
  const root = await scratchDirectory(t)
  const paths = { near: join(root, 'near'), far: join(root, 'far'), own: join(root, 'own') }
  const homes = await Promise.all(['one', 'two', 'copy'].map(() => scratchDirectory(t)))
  const home = (index: number) => homes[index] ?? ''
  const yaml = (index: number, repositories: Readonly<Record<string, string>>) =>
    sidecarYaml(cluster, home(index), {
      databases: ['app'],
      repositories,
      yaml: { auth: { tokens: serveTokens }, lease: { ttl: '1h' }, log: { level: 'info' } },
    })
  const up: Served[] = []
  t.teardown(() => Promise.all(up.map((one) => one.end('SIGKILL'))))
  const start = async (index: number, repositories: Readonly<Record<string, string>>) => {
    const served = await serve(home(index), yaml(index, repositories))
    up.push(served)
    return served
  }
  const { near, far } = paths

  const first = await start(0, { near })
  t.equal(await run(first, '/api/admin/backup'), 'succeeded, near succeeded')
  await untilAnswer('near', async () => (await leases(first)).near === 'held')
  const two = await start(1, { near, far })
  await untilAnswer('two stands by', async () => (await leases(two)).near === 'waiting')
  t.equal(await run(two, '/api/admin/backup'), 'succeeded, far succeeded')
  t.ok(two.lines.some(({ msg, repository }) => /^left out: /.test(String(msg)) && repository === 'near'))
  await untilAnswer('far', async () => (await leases(two)).far === 'held')
  t.equal(await run(two, '/api/admin/expire'), 'succeeded')

  // Commands beside a sidecar leave its lease alone.
  const command = await cli(['backup', '-c', join(home(0), 'lifeboat.yaml')])
  t.match(command, { code: 0, out: /in near,/ })
  const [lease] = await names(join(near, 'test', 'leases'))
  t.match(JSON.parse(await readFile(lease ?? '', 'utf8')), { released: false, pid: first.child.pid })
  t.same(await leases(first), { near: 'held' })

  // A copy of the state directory is another holder, also on the same machine.
  await first.end('SIGKILL')
  await cp(join(home(0), 'state'), join(home(2), 'state'), { recursive: true })
  const copy = await start(2, { near })
  t.same(await leases(copy), { near: 'waiting' })
  const again = await start(0, { near, far })
  t.same(await leases(again), { near: 'held', far: 'waiting' })
  t.equal(await run(again, '/api/admin/backup'), 'succeeded, near succeeded')
})

async function names(folder: string): Promise<readonly string[]> {
  return (await readdir(folder)).map((name) => join(folder, name))
}
