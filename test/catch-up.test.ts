import t from 'tap'
import { createCatchUp } from '../src/catch-up.ts'
import type { ProofSummary } from '../src/observe/catalog.ts'
import type { Run } from '../src/runner/job.ts'
import type { RunRequest } from '../src/runner/runner.ts'
import { memoryLog } from './runner/support.ts'
import { at, backup, catalogOf, proof, repositoryState } from './support/catalog.ts'
import { FakeClock } from './support/fake-clock.ts'

t.test('a copy that no repository has whole is not tried over and over, nor after a restart', async (t) => {
  const clock = new FakeClock(at(600).toISOString())
  const [missed, hour] = [backup(0), 3_600_000]
  const runs: Run[] = []
  let code: NonNullable<Run['failure']>['code'] = 'storage-unreachable'
  const runner = {
    list: () => runs.toReversed(),
    trigger: ({ job, params, trigger, requestedBy }: RunRequest) => {
      const now = clock.now().toISOString()
      const failure = { code, message: 'it failed' }
      const times = { requestedAt: now, startedAt: now, finishedAt: now, progress: null }
      const rest = { lane: 'copy', items: [], hooks: [], retries: 0, attempts: [], state: 'failed' as const, failure }
      const run = { id: `${runs.length}`, job, params, trigger, requestedBy: requestedBy ?? null, ...times, ...rest }
      runs.push(run)
      return run
    },
  }
  const begin = () => createCatchUp({ runner, clock, log: memoryLog().log, isEncrypting: false })
  let [look, proofs] = [begin(), [] as ProofSummary[]]
  const within = async (ms: number) => {
    const before = runs.length
    for (let left = ms; left > 0; left -= hour / 60) {
      look(catalogOf({ repositories: [repositoryState('a', [missed], proofs), repositoryState('b', [])] }))
      await clock.advance(hour / 60)
    }
    return runs.length - before
  }
  t.ok((await within(hour)) >= 5, 'who is out of reach may be back')
  code = 'artifact-invalid'
  t.equal(await within(24 * hour), 1)
  look = begin()
  t.equal(await within(24 * hour), 0, 'what was found out is not forgotten')
  proofs = [proof(missed, (clock.now().getTime() - at(0).getTime()) / 60_000, { artifact: 'pass' })]
  code = 'storage-unreachable'
  look = begin()
  t.ok((await within(hour)) >= 1, 'it was mended')
})
