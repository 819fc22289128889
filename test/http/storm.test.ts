import { once } from 'node:events'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import type { Problem } from '../../src/http/problem.ts'
import type { Run } from '../../src/runner/job.ts'
import { eventually } from '../chaos/invariants.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { serve, serveTokens } from '../support/serve.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { stall } from '../support/stall.ts'

const triggers = 10_000
const queueLimit = 16
const mebibyte = 2 ** 20

/** What the sidecar logs with a verdict; each of these lines names its run. */
const verdictLine = /^run (?:succeeded|failed|cancelled|ended in the queue|was interrupted)/

t.test('ten thousand triggers at once', { timeout: 280_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100) as x')
  const directory = await scratchDirectory(t)
  const yaml = {
    auth: { tokens: serveTokens },
    log: { level: 'info' },
    runner: { queueLimit },
    schedule: { dump: 'off' },
  }
  const served = await serve(directory, sidecarYaml(cluster, directory, { databases: ['app'], yaml }), {
    // As the service is run.
    env: { NODE_OPTIONS: '--max-semi-space-size=2 --max-old-space-size=128' },
  })
  t.teardown(() => served.end('SIGKILL'))
  const documented = (await (await served.request('/openapi.json')).json()) as {
    paths: Record<string, { post: { responses: object } }>
  }
  const statuses = Object.keys(documented.paths['/api/admin/backup']?.post.responses ?? {})

  // Until half of them are answered the first dump stands still, so that the queue fills; then runs come and go.
  const held = await stall(cluster, 'app', 't')
  const before = await served.status('VmRSS')
  const accepted = new Set<string>()
  /** Of a run that dumps what is there: most are for databases that are not. */
  let whole = ''
  const seen = new Map<number, number>()
  const wrong: unknown[] = []
  let answered = 0
  const trigger = async (n: number) => {
    const answer = await served.request(
      '/api/admin/backup',
      n % 2 === 0 ? {} : { database: n % 3 === 0 ? 'app' : `x${n}` },
    )
    const body = (await answer.json()) as Partial<Run & Problem>
    seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1)
    const { headers } = answer
    const isAsDocumented =
      answer.status === 202
        ? body.state !== undefined && headers.get('location') === `/api/runs/${body.id}` && !accepted.has(body.id ?? '')
        : answer.status === 409
          ? body.code === 'conflict' && headers.get('location') === `/api/runs/${body.runId}`
          : Number(headers.get('retry-after')) > 0 && (body.code === 'queue-full' || body.code === 'too-busy')
    if (!isAsDocumented || !statuses.includes(String(answer.status))) {
      wrong.push({ status: answer.status, headers: Object.fromEntries(headers), body })
    }
    if (answer.status === 202) accepted.add(body.id ?? '')
    if (answer.status === 202 && n % 2 === 0) whole ||= body.id ?? ''
    answered += 1
    if (answered === triggers / 2) {
      t.equal(accepted.size, queueLimit + 1, 'one that runs, and so many that wait')
      await held.release()
    }
  }
  const db = new DatabaseSync(join(directory, 'state', 'lifeboat.db'), { readOnly: true })
  t.teardown(() => db.close())
  const waiting = db.prepare(`select count(*) as runs from runs where state = 'queued'`)
  let longest = 0
  let scrapes = 0
  const look = async () => {
    while (answered < triggers) {
      longest = Math.max(longest, Number(waiting.get()?.runs))
      // A connection of its own: those of the triggers are all taken.
      const scrape = await fetch(`${served.url}/metrics`)
      if (scrape.status !== 200) wrong.push({ metrics: scrape.status })
      await scrape.text()
      scrapes += 1
    }
  }
  await Promise.all([...Array.from({ length: triggers }, (_, n) => trigger(n)), look()])

  const grown = ((await served.status('VmHWM')) - before) / mebibyte
  t.comment(`${JSON.stringify(Object.fromEntries(seen))}, ${grown.toFixed(0)} MiB more at most`)
  t.same(wrong.slice(0, 3), [], 'each answer is as documented')
  t.equal(
    [...seen.values()].reduce((sum, count) => sum + count, 0),
    triggers,
  )
  t.match(Object.fromEntries(seen), { 202: Number, 409: Number, 429: Number })
  t.equal(longest, queueLimit, 'the queue was full, and no longer')
  t.ok(scrapes > 1, 'metrics are answered meanwhile')
  t.ok(grown < 150, 'nothing piles up')
  t.equal((await served.request('/-/healthy')).status, 200)
  const run = await eventually('a run has its verdict', 120, async () => {
    const found = (await (await served.request(`/api/runs/${whole}`)).json()) as Run
    return found.finishedAt === null ? null : found
  })
  t.match(run, { state: 'succeeded' }, 'backups were taken meanwhile')
  const saidAll = once(served.child, 'close')
  await served.end()
  await saidAll
  t.equal(served.child.exitCode, 0, 'it ends in order')

  const verdicts = new Map<unknown, number>()
  for (const { msg, run } of served.lines) {
    if (verdictLine.test(String(msg))) verdicts.set(run, (verdicts.get(run) ?? 0) + 1)
  }
  t.same(new Set(verdicts.keys()), accepted, 'each that was accepted has a verdict')
  t.same(new Set(verdicts.values()), new Set([1]), 'and one only')
  const rows = db.prepare('select id, state, finished_at from runs').all()
  t.same(new Set(rows.map(({ id }) => id)), accepted, 'what was refused left nothing')
  t.ok(rows.every(({ state, finished_at: at }) => /^(?:succeeded|failed)$/.test(String(state)) && at !== null))
  t.match(db.prepare(`select runs from job_totals where job = 'dump'`).get(), { runs: accepted.size })
})
