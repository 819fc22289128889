import { join } from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { alertDrillJobs } from '../../src/alert-drill/job.ts'
import { DrillState } from '../../src/alert-drill/state.ts'
import { loadConfig } from '../../src/config/load.ts'
import { History } from '../../src/runner/history.ts'
import type { JobContext } from '../../src/runner/job.ts'
import { FakeClock } from '../support/fake-clock.ts'

const log = pino({ level: 'silent' })

function openState(t: Test, file: string, clock: FakeClock) {
  const history = new History({ file, clock, log })
  t.teardown(() => history.close())
  const running = () => {
    const params = { from: 'rule', echo: true }
    const { id } = history.insert({ job: 'alert-drill', lane: 'drill', params, trigger: 'cli', requestedBy: null })
    history.claim(id)
    return id
  }
  return { history, state: new DrillState(history), running }
}

t.test('processes of one state file tell each other', async (t) => {
  const clock = new FakeClock('2026-03-01T00:00:00.700Z')
  const file = join(t.testdir(), 'state.db')
  const [one, other] = [openState(t, file, clock), openState(t, file, clock)]
  t.equal(one.state.show(), 0, 'nothing goes on')
  t.equal(one.state.lastProvenAt(), null)
  const run = one.running()
  const drill = one.state.begin(run, { now: clock.now(), isShown: true })
  t.equal(drill, '1772323200')
  t.notOk(one.state.isShown(drill), 'no sidecar has looked')
  t.equal(other.state.show(), 1_772_323_200)
  t.ok(one.state.isShown(drill))

  t.notOk(other.state.hear({ drill: '1772323199', receiver: 'late' }), 'an echo of another drill')
  t.ok(other.state.hear({ drill, receiver: 'on-call' }))
  t.ok(other.state.hear({ drill, receiver: 'on-call' }), 'once more')
  t.ok(other.state.hear({ drill, receiver: 'chat' }))
  t.same(one.state.echoes(drill), ['on-call', 'chat'])
  for (let number = 0; number < 30; number += 1) other.state.hear({ drill, receiver: `made up ${number}` })
  t.equal(one.state.echoes(drill).length, 20, 'names that somebody makes up have an end')
  one.state.noteProven(clock.now())
  t.same(other.state.lastProvenAt(), clock.now(), 'it outlives the process')

  one.state.end()
  t.equal(other.state.show(), 0)
  t.notOk(other.state.hear({ drill, receiver: 'on-call' }), 'it is over')

  clock.jump('2026-02-01T00:00:00Z')
  t.equal(one.state.begin(run, { now: clock.now(), isShown: true }), '1772323201', 'no two drills are the same')
  t.same(one.state.echoes('1772323201'), [], 'old echoes do not count')
  const failure = { code: 'interrupted', message: 'killed' } as const
  other.history.finish(run, 'running', { state: 'failed', failure, durationMs: null })
  t.equal(other.state.show(), 0, 'the drill of a dead process fires for nobody')

  const posted = one.running()
  const id = one.state.begin(posted, { now: clock.now(), isShown: false })
  t.equal(other.state.show(), 0, 'one that is posted is not shown')
  t.ok(other.state.hear({ drill: id, receiver: '' }))
})

t.test('without a sidecar it ends, and says what to do', async (t) => {
  const clock = new FakeClock()
  const { state, running } = openState(t, join(t.testdir(), 'state.db'), clock)
  const text = JSON.stringify({
    ...{ cluster: 'spavix', stateDir: '/srv/state', watch: [{ directory: '/srv/dumps' }] },
    alertDrill: { alertmanagers: [{ url: 'http://127.0.0.1:1' }] },
  })
  const config = await loadConfig({ text, env: {} })
  t.same(
    alertDrillJobs({
      config: await loadConfig({ text: text.replace(/\{"url.*?\}/, ''), env: {} }),
      state,
      clock,
      version: '0',
    }),
    [],
  )
  const [job] = alertDrillJobs({ config, state, clock, version: '0' })
  const signal = new AbortController().signal
  const said: string[] = []
  const context: JobContext = {
    ...{ runId: running(), trigger: 'cli', signal, log },
    ...{ item: () => {}, hook: () => {}, retried: () => {} },
    progress: ({ message = '' }) => void said.push(message),
  }
  const ended = job?.run({ from: 'rule', echo: true }, context).catch((error: unknown) => error)
  while (clock.sleeping === 0) await new Promise(setImmediate)
  await clock.advance(29_000)
  t.same(said, ['waiting for the sidecar to show it'])
  await clock.advance(2_000)
  t.match(await ended, {
    code: 'alert-drill-failed',
    message:
      'the alert drill ended at the sidecar: no sidecar works with /srv/state, so nothing shows the drill, after 30 s',
    hint: /lifeboat serve.*--from alertmanager --no-echo/,
  })
  t.match(state.resultOf(context.runId), { proven: false, hops: [{ hop: 'sidecar', outcome: 'failed' }] })
  t.equal(state.lastProvenAt(), null)
  await t.rejects(Promise.resolve(job?.run({ from: 'nowhere', echo: true }, context)), { code: 'usage-invalid' })
})
