import t from 'tap'
import { runProgram } from '../src/postgres/programs.ts'
import type { Run } from '../src/runner/job.ts'
import { allRuns, eventually } from './chaos/invariants.ts'
import { parseExposition } from './support/exposition.ts'
import { startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'
import { type Served, serve, serveTokens } from './support/serve.ts'
import { sidecarYaml } from './support/sidecar.ts'

/** The real sidecar, told by faketime what time it is; its children and the server know the true one. */
t.test('the clock set back an hour, forward a year, and right again', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100) as x')
  const directory = await scratchDirectory(t)
  const yaml = sidecarYaml(cluster, directory, {
    databases: ['app'],
    yaml: {
      auth: { tokens: serveTokens },
      log: { level: 'info' },
      observe: { interval: '1s' },
      verification: { level: 'artifact' },
    },
  })
  const { stdout } = await runProgram({ program: 'faketime', args: ['-f', '+0', 'printenv', 'LD_PRELOAD'] })
  const library = stdout.trim()
  const at = async (offset: string | null): Promise<Served> => {
    // Not through the program faketime, which stays between: a signal would not reach the sidecar. Timers go on as they do.
    const served = await serve(
      directory,
      yaml,
      offset === null ? {} : { env: { LD_PRELOAD: library, FAKETIME: offset, DONT_FAKE_MONOTONIC: '1' } },
    )
    t.teardown(() => served.end('SIGKILL'))
    return served
  }
  const ended = (served: Served, find: (run: Run) => boolean) =>
    eventually(
      'the run',
      60,
      async () => (await allRuns(served)).find((run) => find(run) && run.finishedAt !== null) ?? null,
    )
  const ask = async (served: Served, path: string): Promise<Run> => {
    const { id } = (await (await served.request(`/api/admin/${path}`, {})).json()) as Run
    return ended(served, (run) => run.id === id)
  }
  const sample = async (served: Served, name: string) =>
    parseExposition(await (await served.request('/metrics')).text()).find((one) => one.name === name)?.value

  const first = await at(null)
  t.match(await ask(first, 'backup'), { state: 'succeeded', trigger: 'api' })
  t.match(await ask(first, 'expire'), { state: 'succeeded' })
  await first.end()

  const back = await at('-1h')
  t.match(await ask(back, 'backup'), { state: 'succeeded' }, 'a backup is taken whatever the clock says')
  t.match(await ask(back, 'expire'), { state: 'failed', failure: { code: 'retention-refused' } })
  t.match(
    (await allRuns(back)).filter(({ trigger }) => trigger === 'catch-up'),
    [],
    'nothing was missed',
  )
  t.equal((await allRuns(back)).length, 4)
  await back.end()

  const forward = await at('+365d')
  const caught = []
  for (const job of ['dump', 'verify', 'expire'])
    caught.push(await ended(forward, (run) => run.job === job && run.trigger === 'catch-up'))
  t.match(caught, [
    { state: 'succeeded' },
    { finishedAt: String },
    { state: 'failed', failure: { code: 'retention-refused' } },
  ])
  const starts = caught.map(({ startedAt }) => startedAt ?? '')
  t.same(starts, starts.toSorted(), 'in the order of the schedules')
  t.equal((await allRuns(forward)).length, 7, 'a year is one run of each, also of the verification that never ran')
  await eventually('the metrics', 30, async () => ((await sample(forward, 'lifeboat_backups')) === 3 ? true : null))
  await forward.end()

  const right = await at(null)
  t.match(await ask(right, 'backup'), { state: 'succeeded' })
  const runs = await allRuns(right)
  t.equal(runs.length, 8, 'nothing is caught up because of what the clock had shown')
  t.ok(
    runs.every(({ finishedAt }) => finishedAt !== null),
    'each has its verdict',
  )
  const { jobs } = (await (await right.request('/api/jobs')).json()) as { jobs: { nextRunAt: string | null }[] }
  for (const { nextRunAt } of jobs) {
    if (nextRunAt !== null) t.ok(Date.parse(nextRunAt) - Date.now() < 8 * 86_400_000, `it goes on at ${nextRunAt}`)
  }
  t.ok(jobs.filter(({ nextRunAt }) => nextRunAt !== null).length >= 3)
  await eventually('four backups', 30, async () => ((await sample(right, 'lifeboat_backups')) === 4 ? true : null))
  await right.end()
})
