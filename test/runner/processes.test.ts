import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Run } from '../../src/runner/job.ts'
import { isAlive, ownProcess } from '../../src/runner/process-identity.ts'
import { Runner } from '../../src/runner/runner.ts'
import { history, type Line, memoryLog, puppet, thrownBy } from './support.ts'

const fixture = `${import.meta.dirname}/fixtures/runner-process.ts`

interface Fixture {
  readonly child: ChildProcess
  /** Waits for the next line with this event; lines before it are passed over. */
  next(event: string): Promise<Line>
  /** Waits for the end of the process. */
  ended(): Promise<number | string>
}

function run(t: Test, directory: string, mode: string, database = 'app'): Fixture {
  const child = spawn(process.execPath, [fixture, `${directory}/lifeboat.db`, mode, database], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const exit = once(child, 'exit')
  return {
    child,
    async next(event) {
      for (;;) {
        const { value, done } = await lines.next()
        if (done) throw new Error(`the process ended before it said ${event}`)
        const line: Line = JSON.parse(value)
        if (line.event === event) return line
      }
    },
    async ended() {
      const [code, signal] = await exit
      return code ?? signal
    },
  }
}

/** A runner of this process on the same file, with the real clock. */
function ownRunner(t: Test, directory: string) {
  const { job, calls } = puppet()
  const file = history(directory, systemClock)
  const { log, lines } = memoryLog()
  const runner = new Runner({ jobs: [job], schedules: [], history: file, clock: systemClock, log, abortGraceMs: 100 })
  t.teardown(async () => {
    await runner.stop()
    file.close()
  })
  const until = (test: (run: Run) => boolean) =>
    new Promise<Run>((resolve) => {
      const end = runner.onChange((run) => {
        if (!test(run)) return
        end()
        resolve(run)
      })
    })
  return { runner, calls, lines, history: file, until }
}

const request = { job: 'dump', params: { database: 'mine' }, trigger: 'api', requestedBy: null } as const

await t.test('a killed process: one verdict, interrupted, at the next start', async (t) => {
  const directory = t.testdir({})
  const killed = run(t, directory, 'hang')
  const { id } = await killed.next('running')
  killed.child.kill('SIGKILL')
  t.equal(await killed.ended(), 'SIGKILL')

  const { runner, history, lines } = ownRunner(t, directory)
  const changes: string[] = []
  runner.onChange((run) => changes.push(`${run.id} ${run.state}`))
  t.equal(runner.get(String(id))?.state, 'running')
  await runner.start()
  t.same(changes, [`${String(id)} failed`])
  const verdict = runner.get(String(id))
  t.match(verdict, { state: 'failed', failure: { code: 'interrupted', hint: String } })
  t.match(verdict?.items, [{ database: 'first' }], 'what it had done is kept')
  t.match(runner.jobs(), [{ runs: 1, failures: 1, running: false, lastDurationSeconds: null }])
  t.match(runner.backupFailures(), [{ database: 'app', failure: { code: 'interrupted' } }])
  t.equal(lines.filter(({ msg }) => msg === 'run was interrupted').length, 1)
  t.same(history.sweep(), [], 'once only')
  t.equal(history.finish(String(id), 'running', { state: 'succeeded', failure: null, durationMs: 1 }), null)

  const next = runner.trigger({ ...request, params: { database: 'app' } })
  t.equal((await runner.wait(runner.cancel(next.id).id)).state, 'cancelled', 'neither lane nor params are taken')
})

await t.test('killed while one run works and another waits: both get their verdict', async (t) => {
  const directory = t.testdir({})
  const worker = run(t, directory, 'hang', 'a')
  await worker.next('running')
  const waiter = run(t, directory, 'hang', 'b')
  const { id } = await waiter.next('queued')
  waiter.child.kill('SIGKILL')
  await waiter.ended()
  const { runner } = ownRunner(t, directory)
  await runner.start()
  t.match(runner.get(String(id)), { state: 'failed', startedAt: null, failure: { code: 'interrupted' } })
  t.match(runner.list({ state: 'running' }), [{ params: { database: 'a' } }], 'the living one is left alone')
  worker.child.kill('SIGKILL')
  await worker.ended()
  t.equal((await runner.wait(runner.list({ state: 'running' })[0]?.id ?? '')).failure?.code, 'interrupted')
  t.match(runner.jobs(), [{ runs: 2, failures: 2 }])
})

await t.test('a lane is shared by processes: the second waits, and takes it over from the dead', async (t) => {
  const directory = t.testdir({})
  const first = run(t, directory, 'hang')
  const { id } = await first.next('running')
  const { runner, calls, lines, until } = ownRunner(t, directory)
  await runner.start()
  t.match(runner.jobs(), [{ running: true }], 'of another process')

  const error = thrownBy(() => runner.trigger({ ...request, params: { database: 'app' } }))
  t.match(error, { code: 'conflict', details: { runId: id } }, 'equal to a run of another process')

  const running = until(({ state, params }) => state === 'running' && params.database === 'mine')
  const mine = runner.trigger(request)
  const interrupted = until((run) => run.id === id)
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(runner.get(mine.id)?.state, 'queued')
  t.match(lines.at(-1), { msg: /another process works in the lane/ })
  first.child.kill('SIGKILL')
  t.equal((await interrupted).failure?.code, 'interrupted')
  await running
  calls[0]?.succeed()
  t.equal((await runner.wait(mine.id)).state, 'succeeded')
})

await t.test('a run of another process can be waited for and cancelled', async (t) => {
  const directory = t.testdir({})
  const other = run(t, directory, 'hang')
  const { id } = await other.next('running')
  const { runner } = ownRunner(t, directory)
  const verdict = runner.wait(String(id))
  t.equal(runner.cancel(String(id)).state, 'running')
  t.equal((await verdict).state, 'cancelled')
  t.match(await other.next('verdict'), { state: 'cancelled', failure: { code: 'cancelled' } })
  t.equal(await other.ended(), 0)
})

await t.test('a queued run of another process is cancelled at once', async (t) => {
  const directory = t.testdir({})
  const { runner, calls } = ownRunner(t, directory)
  const mine = runner.trigger(request)
  const other = run(t, directory, 'hang')
  const { id } = await other.next('queued')
  t.equal(runner.cancel(String(id)).state, 'cancelled')
  t.match(await other.next('verdict'), { state: 'cancelled' })
  t.equal(await other.ended(), 0)
  calls[0]?.succeed()
  t.equal((await runner.wait(mine.id)).state, 'succeeded')
})

await t.test('a process lives until its run has a verdict, and no longer', async (t) => {
  const directory = t.testdir({})
  const { runner, calls } = ownRunner(t, directory)
  const mine = runner.trigger(request)
  const waiting = run(t, directory, 'finish')
  await waiting.next('queued')
  calls[0]?.succeed()
  await runner.wait(mine.id)
  t.match(
    await waiting.next('verdict'),
    { state: 'succeeded', failure: null },
    'though it had nothing but time to wait for',
  )
  t.equal(await waiting.ended(), 0)
})

await t.test('SIGTERM: an obedient run and a deaf one get their verdict before the process ends', async (t) => {
  for (const mode of ['hang', 'deaf']) {
    const directory = t.testdir({})
    const stopped = run(t, directory, mode)
    const { id } = await stopped.next('running')
    stopped.child.kill('SIGTERM')
    t.match(await stopped.next('verdict'), { state: 'failed', failure: { code: 'interrupted' } }, mode)
    t.equal(await stopped.ended(), 0)
    const { runner } = ownRunner(t, directory)
    await runner.start()
    t.match(runner.get(String(id)), { state: 'failed', failure: { message: /shutting down/ } })
    t.match(runner.jobs(), [{ runs: 1, failures: 1 }], 'one verdict')
    const next = runner.trigger(request)
    await new Promise((resolve) => setImmediate(resolve))
    t.equal(runner.get(next.id)?.state, 'running', 'the lane of the deaf one went with its process')
  }
})

await t.test('many processes open a new file at once', async (t) => {
  const directory = t.testdir({})
  const fixtures = Array.from({ length: 6 }, (_, index) => run(t, directory, 'finish', `db ${index}`))
  for (const one of fixtures) t.match(await one.next('verdict'), { state: 'succeeded' })
  for (const one of fixtures) t.equal(await one.ended(), 0)
  const { runner } = ownRunner(t, directory)
  t.match(runner.jobs(), [{ runs: 6, failures: 0 }])
  const times = runner.list().map(({ startedAt, finishedAt }) => [startedAt ?? '', finishedAt ?? ''] as const)
  times.sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [index, [startedAt]] of times.entries()) t.ok(startedAt >= (times[index - 1]?.[1] ?? ''), 'one at a time')
})

await t.test('a locked file is an error with a hint, and nothing is set aside', async (t) => {
  const directory = t.testdir({})
  const open = () => history(directory, systemClock, { busyTimeoutMs: 50 })
  const store = open()
  const writer = run(t, directory, 'lock')
  await writer.next('locked')
  const insert = () => store.insert({ ...request, lane: 'backup' })
  t.match(thrownBy(insert), { code: 'storage-failed', message: /locked/, hint: /fuser/ })
  t.same(store.list(), [], 'reading goes on')
  t.match(thrownBy(open), { code: 'storage-failed', message: /locked/, hint: /fuser/ })
  writer.child.stdin?.end()
  t.equal(await writer.ended(), 0)
  const { id } = insert()
  store.close()

  const owner = run(t, directory, 'exclusive')
  await owner.next('locked')
  t.match(thrownBy(open), { code: 'storage-failed', message: /locked/, hint: /fuser/ })
  owner.child.stdin?.end()
  t.equal(await owner.ended(), 0)
  const again = open()
  t.equal(again.get(id)?.state, 'queued', 'all is there')
  again.close()
})

await t.test('processes are told apart', async (t) => {
  const self = ownProcess()
  t.equal(isAlive(self), true)
  t.equal(isAlive({ ...self, startTime: `${Number(self.startTime) + 1}` }), false, 'the same number, another process')
  t.equal(isAlive({ ...self, bootId: '00000000-0000-0000-0000-000000000000' }), false, 'another boot')
  t.equal(isAlive({ ...self, pid: 2 ** 22 + 1 }), false, 'above the largest pid')
  // sh starts a child and becomes sleep(1), which never waits for it: when that ends, it stays as a zombie.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => parent.kill('SIGKILL'))
  const [output] = await once(parent.stdout, 'data')
  const pid = Number(String(output))
  const stat = (of: number | undefined) => readFileSync(`/proc/${of}/stat`, 'latin1')
  const until = async (test: () => boolean) => {
    while (!test()) await new Promise((resolve) => setImmediate(resolve))
  }
  await until(() => stat(parent.pid).includes('(sleep)'))
  process.kill(pid, 'SIGKILL')
  await until(() => stat(pid).includes(') Z '))
  const startTime = stat(pid).split(') ').at(-1)?.split(' ')[19] ?? ''
  t.match(startTime, /^\d+$/)
  t.equal(isAlive({ ...self, pid, startTime }), false, 'a zombie')
})
