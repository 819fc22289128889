import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import type { Run } from '../../src/runner/job.ts'
import { parseExposition, type Sample } from '../support/exposition.ts'
import type { Served } from '../support/serve.ts'
import { manifestsIn, type Sidecar } from '../support/sidecar.ts'

/** Waits until a question is answered with something; fails after so many seconds. */
export async function eventually<T>(what: string, seconds: number, ask: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const answer = await ask()
    if (answer !== null) return answer
    if (performance.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`)
    await delay(200)
  }
}

/** Every run that the sidecar knows, newest first. */
export async function allRuns(served: Served): Promise<readonly Run[]> {
  const runs: Run[] = []
  for (;;) {
    const before = runs.at(-1)?.id
    const answer = await served.request(`/api/runs?limit=500${before === undefined ? '' : `&before=${before}`}`)
    const page = (await answer.json()) as { runs: Run[] }
    runs.push(...page.runs)
    if (page.runs.length < 500) return runs
  }
}

/** One verdict for each run, whatever happened to it; none that was accepted is unknown. */
export function checkRuns(t: Test, runs: readonly Run[], accepted: ReadonlySet<string>, stateFile: string): void {
  const known = new Set(runs.map(({ id }) => id))
  t.same(
    [...accepted].filter((id) => !known.has(id)),
    [],
    'every run that was accepted is in the history',
  )
  t.same(
    runs.filter(({ state, finishedAt }) => state === 'queued' || state === 'running' || finishedAt === null),
    [],
    'every run has its verdict',
  )
  const db = new DatabaseSync(stateFile, { readOnly: true })
  const totals = db.prepare('select job, runs, failures from job_totals order by job').all()
  t.same(db.prepare('select * from lanes').all(), [], 'no lane is taken')
  db.close()
  const counted = ['dump', 'expire', 'verify'].map((job) => {
    const ofJob = runs.filter((run) => run.job === job)
    return { job, runs: ofJob.length, failures: ofJob.filter(({ state }) => state === 'failed').length }
  })
  t.same(
    totals,
    counted.filter(({ runs }) => runs > 0),
    'and exactly one: the counters have counted each once',
  )
}

/** What the runs said that they had stored is there. */
export function checkStored(t: Test, runs: readonly Run[], manifests: readonly Manifest[]): void {
  const there = new Set(manifests.map(({ backupId }) => backupId))
  const promised = runs
    .filter(({ job }) => job === 'dump')
    .flatMap(({ items }) => items)
    .filter(({ outcome }) => outcome === 'succeeded')
  t.same(
    promised.filter(({ backupId }) => !there.has(backupId ?? '')),
    [],
    'what was reported as stored is there',
  )
  t.ok(promised.length > 0, 'something was stored')
}

/** `/metrics` says what is on disk. */
export async function checkMetrics(
  t: Test,
  served: Served,
  repositories: Sidecar['core']['repositories'],
): Promise<void> {
  for (const { repository } of repositories) {
    const manifests = await manifestsIn(repository)
    const bytes = manifests.reduce(
      (sum, { artifacts }) => sum + artifacts.reduce((all, { stored }) => all + stored.bytes, 0),
      0,
    )
    const newest = Math.max(...manifests.map(({ stop }) => Date.parse(stop.time))) / 1000
    const wanted = { count: manifests.length, bytes, newest }
    let seen: unknown
    await eventually(`the metrics of ${repository.name}`, 30, async () => {
      const samples = parseExposition(await (await served.request('/metrics')).text())
      const of = (name: string) =>
        samples
          .filter(
            (one: Sample) =>
              one.name === name && one.labels.repository === repository.name && one.labels.backup_type === 'dump',
          )
          .map(({ value }) => value)
      seen = {
        count: of('lifeboat_backups')[0],
        bytes: of('lifeboat_backups_size_bytes')[0],
        newest: Math.max(...of('lifeboat_backup_last_success_timestamp_seconds')),
      }
      return JSON.stringify(seen) === JSON.stringify(wanted) ? true : null
    }).catch(() => undefined)
    t.same(seen, wanted, `the metrics of ${repository.name} are what is on disk`)
  }
}

/** Each backup that is there is whole. */
export async function checkBackups(t: Test, sidecar: Sidecar): Promise<number> {
  const bad: unknown[] = []
  let count = 0
  for (const { repository } of sidecar.core.repositories) {
    for (const { backupId } of await manifestsIn(repository)) {
      const run = await sidecar.run('verify', {
        repository: repository.name,
        backup: backupId,
        level: 'artifact',
        rehash: true,
      })
      if (run.state !== 'succeeded') bad.push(run)
      count += 1
    }
  }
  t.same(bad, [], 'every manifest is whole, and what it names is there')
  return count
}
