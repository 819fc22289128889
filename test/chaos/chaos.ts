import { join } from 'node:path'
import type { Test } from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { serveTokens } from '../support/serve.ts'
import { sidecarYaml, startSidecar } from '../support/sidecar.ts'
import { noSessions } from '../support/stall.ts'
import { allRuns, checkBackups, checkMetrics, checkRuns, checkStored, eventually } from './invariants.ts'
import { Random } from './random.ts'
import { killChild, pause, Victim } from './victim.ts'

export interface ChaosOptions {
  readonly seconds: number
  readonly seed: number
}

const oddName = 'it\'s "odd"\n-'

/**
 * A real sidecar on a real server, asked for work over HTTP by several at once, while it and its children are killed at
 * random moments. In the end everything that must always hold is looked at.
 */
export async function chaos(t: Test, { seconds, seed }: ChaosOptions): Promise<void> {
  t.comment(`seed ${seed}: npm run chaos -- --seed ${seed} --minutes ${seconds / 60}`)
  const random = new Random(seed)
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'app', scale: 0.1 })
  await cluster.createDatabase(oddName, 'create table t as select generate_series(1, 1000) as x')
  const directory = await scratchDirectory(t)
  const options = {
    repositories: { one: join(directory, 'one'), two: join(directory, 'two') },
    databases: ['app', oddName],
    yaml: {
      auth: { tokens: serveTokens },
      log: { level: 'info' },
      observe: { interval: '1s' },
      runner: { retries: 2, queueLimit: 4 },
    },
  }
  const yaml = sidecarYaml(cluster, directory, options)
  const victim = new Victim(directory, yaml)
  t.teardown(() => victim.kill('SIGKILL'))
  const accepted = new Set<string>()
  const answers = new Map<number, number>()
  const deeds = new Map<string, number>()
  const end = performance.now() + seconds * 1000
  const isOver = () => performance.now() > end
  const count = <K>(map: Map<K, number>, key: K) => map.set(key, (map.get(key) ?? 0) + 1)

  const ask = async () => {
    const [path, body] = random.pick<readonly [string, object]>([
      ['backup', {}],
      ['backup', { database: 'app' }],
      ['backup', { database: oddName }],
      ['backup', { database: 'nowhere' }],
      ['verify', { level: 'artifact' }],
      ['verify', { level: 'data', database: oddName, repository: 'one' }],
      ['verify', { level: 'data', database: 'app', repository: 'two' }],
      ['expire', {}],
    ])
    // Whoever asks while it is killed gets no answer; what was accepted may be unknown to the one who asked.
    const answer = await victim.served?.request(`/api/admin/${path}`, body).catch(() => null)
    if (!answer) return
    count(answers, answer.status)
    const { id } = (await answer.json().catch(() => ({}))) as { id?: string }
    if (answer.status === 202 && id !== undefined) accepted.add(id)
    if (id !== undefined && random.next() < 0.1) {
      await victim.served?.request(`/api/runs/${id}`, undefined, 'DELETE').catch(() => null)
    }
  }
  const askers = Array.from({ length: 3 }, async () => {
    while (!isOver()) {
      await ask()
      await pause(random, 20, 1500)
    }
  })
  const killer = async () => {
    void victim.start()
    while (!isOver()) {
      await pause(random, 300, 6000)
      const deed = random.pick(['sidecar', 'sidecar', 'child', 'child', 'child', 'term', 'sessions'])
      count(deeds, deed)
      if (deed === 'child') await killChild(join(directory, 'state', 'work'), random)
      else if (deed === 'sessions') {
        await cluster.sql(
          `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lifeboat' and pid <> pg_backend_pid()`,
        )
      } else {
        await victim.kill(deed === 'term' ? 'SIGTERM' : 'SIGKILL')
        await pause(random, 0, 1000)
        void victim.start()
      }
    }
  }
  await Promise.all([...askers, killer()])
  await victim.kill('SIGKILL')

  const told = (map: Map<string | number, number>) => [...map].map(([key, times]) => `${key} ${times}`).join(', ')
  t.comment(`${victim.starts} starts; deeds: ${told(deeds)}; answers: ${told(answers)}`)
  t.same(victim.surprises, [], 'it never ended by itself')
  const served = await victim.start()
  if (served === null) throw new Error('it does not start any more')
  // No lane is stuck: after what is left, each does its work.
  await eventually('nothing is under way', 60, async () =>
    (await allRuns(served)).every(({ finishedAt }) => finishedAt !== null) ? true : null,
  )
  for (const [path, body] of [
    ['backup', {}],
    ['verify', { level: 'data' }],
    ['expire', {}],
  ] as const) {
    const answer = await served.request(`/api/admin/${path}`, body)
    const { id } = (await answer.json()) as { id: string }
    t.equal(answer.status, 202)
    accepted.add(id)
    const run = await eventually(
      `the ${path}`,
      120,
      async () => (await allRuns(served)).find((one) => one.id === id && one.finishedAt !== null) ?? null,
    )
    t.match(run, { state: 'succeeded' }, `${path} works: ${JSON.stringify(run.failure)}`)
  }
  const runs = await allRuns(served)
  const stateFile = join(directory, 'state', 'lifeboat.db')
  checkRuns(t, runs, accepted, stateFile)
  t.comment(
    told(
      runs.reduce(
        (map, { job, state, failure }) => count(map, `${job} ${state} ${failure?.code ?? ''}`),
        new Map<string, number>(),
      ),
    ),
  )
  const messages = runs.flatMap(({ failure }) => (failure === null ? [] : [`${failure.code}: ${failure.message}`]))
  for (const message of new Set(messages.map((text) => text.replaceAll(/[0-9a-f]{6,}|\d+/g, '…'))))
    t.comment(message.slice(0, 200))
  const sidecar = await startSidecar(t, cluster, { ...options, directory })
  await checkMetrics(t, served, sidecar.core.repositories)
  checkStored(t, runs, await sidecar.manifests())
  t.same(await sidecar.leftovers(), [], 'no folder without a manifest, no work folder, no process is left')
  await victim.kill('SIGTERM')
  t.equal(served.child.exitCode, 0)
  await noSessions(cluster)
  t.comment(`${await checkBackups(t, sidecar)} backups are whole`)
}
