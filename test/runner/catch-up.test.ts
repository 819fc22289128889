import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { JobName } from '../../src/runner/job.ts'
import { Runner, type RunnerOptions } from '../../src/runner/runner.ts'
import { previousRun } from '../../src/runner/schedule.ts'
import type { Schedule } from '../../src/runner/slots.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { history, memoryDirectory, memoryLog, puppet } from './support.ts'

const hour = 3600_000
const schedules: readonly Schedule[] = [
  { job: 'dump', params: {}, cron: '0 2 * * *' },
  { job: 'verify', params: {}, cron: '0 4 * * *' },
  { job: 'expire', params: {}, cron: '0 5 * * *' },
]

/** A sidecar's runner, begun anew on the same history as often as wanted. */
function lives(t: Test, from = '2026-03-01T00:00:00Z') {
  const directory = memoryDirectory(t)
  const clock = new FakeClock(from)
  const begin = async (more: Partial<RunnerOptions> = {}) => {
    const { log, lines } = memoryLog()
    const store = history(directory, clock)
    const names: readonly JobName[] = ['dump', 'verify', 'expire']
    const puppets = names.map((name) => puppet({ name, lane: name }))
    const runner = new Runner({
      jobs: puppets.map(({ job }) => job),
      schedules,
      history: store,
      clock,
      log,
      catchUp: true,
      ...more,
    })
    await runner.start()
    runner.catchUp()
    await clock.advance(0)
    let ended = false
    const end = async () => {
      if (ended) return
      ended = true
      const stopped = runner.stop()
      await clock.advance(60_000)
      await stopped
      store.close()
    }
    t.teardown(end)
    const calls = (name: JobName) => puppets[names.indexOf(name)]?.calls ?? []
    const succeed = async (name: JobName) => {
      calls(name).at(-1)?.succeed()
      await clock.advance(0)
    }
    const begun = () => names.flatMap((name) => calls(name).map(() => name))
    const triggers = () => runner.list().map(({ job, trigger, state }) => `${job} ${trigger} ${state}`)
    return { runner, lines, end, begun, succeed, triggers, store }
  }
  return { begin, clock }
}

t.test('the newest slot until a moment', (t) => {
  const previous = (cron: string, until: string) => previousRun(cron, new Date(until))?.toISOString()
  t.equal(previous('0 2 * * *', '2026-03-01T02:00:00Z'), '2026-03-01T02:00:00.000Z', 'that moment is one')
  t.equal(previous('0 2 * * *', '2026-03-01T01:59:59.999Z'), '2026-02-28T02:00:00.000Z')
  t.equal(previous('0 0 29 2 *', '2026-03-01T00:00:00Z'), '2024-02-29T00:00:00.000Z')
  t.equal(previous('0 0 30 2 *', '2026-03-01T00:00:00Z'), undefined)
  t.end()
})

t.test('a first start makes up for nothing, however late in the day it is', async (t) => {
  const { begin, clock } = lives(t, '2026-03-01T12:00:00Z')
  const first = await begin()
  t.same(first.begun(), [])
  await first.end()
  clock.jump('2026-03-01T23:00:00Z')
  const second = await begin()
  t.same(second.begun(), [], 'nor does the next one, when nothing was due since')
})

t.test('what passed while nobody was there: once, one after another, in the order that makes sense', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-04T12:00:00Z')
  const back = await begin()
  t.same(back.begun(), ['dump'], 'three days are one run')
  t.match(
    back.lines.find(({ msg }) => /made up for now/.test(String(msg))),
    { job: 'dump', slot: '2026-03-04T02:00:00.000Z' },
  )
  await back.succeed('dump')
  t.same(back.begun(), ['dump', 'verify'])
  await back.succeed('verify')
  t.same(back.begun(), ['dump', 'verify', 'expire'])
  await back.succeed('expire')
  t.same(back.triggers(), ['expire catch-up succeeded', 'verify catch-up succeeded', 'dump catch-up succeeded'])
  await back.end()
  const again = await begin()
  t.same(again.begun(), [], 'and not again')
  await clock.advance(15 * hour)
  t.same(again.begun(), ['dump'], 'the schedule goes on')
  t.match(again.runner.list(), [{ trigger: 'schedule', requestedAt: '2026-03-05T02:00:00.000Z' }])
})

t.test('one that fails, or was cancelled, does not keep the others from being made up for', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-02T12:00:00Z')
  const back = await begin()
  const [run] = back.runner.list()
  back.runner.cancel(run?.id ?? '')
  await clock.advance(0)
  t.same(back.begun(), ['dump', 'verify'])
})

t.test('not what has begun since its slot by whatever trigger', async (t) => {
  const { begin, clock } = lives(t)
  const first = await begin()
  await first.end()
  clock.jump('2026-03-01T03:00:00Z')
  // A command, without schedules, while no sidecar runs.
  const command = await begin({ schedules: [] })
  const { id } = command.runner.trigger({ job: 'dump', params: {}, trigger: 'cli', requestedBy: 'me' })
  await clock.advance(0)
  await command.succeed('dump')
  t.match(command.runner.get(id), { state: 'succeeded' })
  await command.end()
  clock.jump('2026-03-01T12:00:00Z')
  const back = await begin()
  t.same(back.begun(), ['verify'], 'a dump was taken at three')
  t.match(back.triggers(), ['verify catch-up running', 'dump cli succeeded'])
})

t.test('a job that has never begun is made up for too: its machine is off whenever it is due', async (t) => {
  const { begin, clock } = lives(t, '2026-03-01T12:00:00Z')
  await (await begin()).end()
  clock.jump('2026-03-02T12:00:00Z')
  t.same((await begin()).begun(), ['dump'])
})

t.test('a part of it is not it', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-01T03:00:00Z')
  const command = await begin({ schedules: [] })
  command.runner.trigger({ job: 'dump', params: { database: 'app' }, trigger: 'cli', requestedBy: 'me' })
  await clock.advance(0)
  await command.succeed('dump')
  await command.end()
  t.same((await begin()).begun(), ['dump'], 'one database was dumped at three, not all of them')
})

t.test('a scheduled run that was cut off is begun again, once', async (t) => {
  const { begin, clock } = lives(t)
  const first = await begin()
  await clock.advance(2 * hour)
  t.same(first.begun(), ['dump'])
  await first.end()
  const second = await begin()
  t.same(second.begun(), ['dump'])
  t.match(
    second.lines.find(({ msg }) => /made up for now/.test(String(msg))),
    { because: 'it was cut off', slot: '2026-03-01T02:00:00.000Z' },
  )
  await second.end()
  const third = await begin()
  t.same(third.begun(), [], 'it may be what ends the process')
  t.match(third.runner.list(), [
    { trigger: 'catch-up', state: 'failed', failure: { code: 'interrupted' } },
    { trigger: 'schedule', state: 'failed', failure: { code: 'interrupted' } },
  ])
})

t.test('one that was cut off in the queue has not begun, so it is not what ends the process', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-01T03:00:00Z')
  for (let life = 0; life < 3; life += 1) {
    const busy = await begin({ schedules: [] })
    busy.runner.trigger({ job: 'dump', params: { database: 'app' }, trigger: 'api', requestedBy: 'me' })
    await clock.advance(0)
    const back = await begin()
    t.match(back.runner.list({ job: 'dump', limit: 1 }), [{ trigger: 'catch-up', state: 'queued' }])
    await back.end()
    await busy.end()
  }
  t.same((await begin()).begun(), ['dump'])
})

t.test('one that was cut off by hand is over', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  const early = await begin()
  early.runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: 'me' })
  await clock.advance(0)
  await early.end()
  t.same((await begin()).begun(), [])
})

t.test('a full queue makes it late, not lost', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-01T03:00:00Z')
  const busy = await begin({ schedules: [] })
  for (const n of [1, 2]) busy.runner.trigger({ job: 'dump', params: { n }, trigger: 'api', requestedBy: 'me' })
  await clock.advance(0)
  const back = await begin({ queueLimit: 1 })
  t.notOk(back.runner.list().some(({ trigger }) => trigger === 'catch-up'))
  await busy.succeed('dump')
  await busy.succeed('dump')
  await clock.advance(31_000)
  t.same(back.begun(), ['dump'])
})

t.test('a schedule that was changed or switched on begins anew', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-02T12:00:00Z')
  const back = await begin({ schedules: [{ job: 'dump', params: {}, cron: '30 11 * * *' }] })
  t.same(back.begun(), [])
})

t.test('off: it is said, and nothing runs, also later when it is on again', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  clock.jump('2026-03-02T12:00:00Z')
  const off = await begin({ catchUp: false })
  t.same(off.begun(), [])
  t.equal(off.lines.filter(({ msg }) => /not made up for/.test(String(msg))).length, 3)
  await off.end()
  t.same((await begin()).begun(), [])
})

t.test('the machine slept', async (t) => {
  const { begin, clock } = lives(t)
  const runner = await begin()
  clock.jump('2026-03-03T12:00:00Z')
  await clock.advance(60_000)
  t.same(runner.begun(), ['dump'], 'the dump first, though all three were due')
  await runner.succeed('dump')
  await runner.succeed('verify')
  await runner.succeed('expire')
  t.same(runner.triggers(), ['expire catch-up succeeded', 'verify catch-up succeeded', 'dump catch-up succeeded'])
  await clock.advance(14 * hour)
  t.match(runner.runner.list({ job: 'dump' }), [{ trigger: 'schedule' }, { trigger: 'catch-up' }])
})

t.test('the clock set back an hour: nothing twice; forward a year and back: once, then as before', async (t) => {
  const { begin, clock } = lives(t)
  const first = await begin()
  await clock.advance(2 * hour)
  await first.succeed('dump')
  clock.jump('2026-03-01T01:00:00Z')
  await clock.advance(1.5 * hour)
  t.equal(first.begun().length, 1, 'the slot came again, in the same process')
  clock.jump('2026-03-01T01:00:00Z')
  await first.end()
  const second = await begin()
  t.same(second.begun(), [], 'and in the next')
  await clock.advance(hour)
  t.same(second.begun(), [], 'where it is not due again either')
  clock.jump('2027-03-01T12:00:00Z')
  await clock.advance(60_000)
  for (const name of ['dump', 'verify', 'expire'] as const) await second.succeed(name)
  t.same(second.begun(), ['dump', 'verify', 'expire'], 'a year is one run of each')
  await second.end()
  clock.jump('2026-03-01T12:00:00Z')
  const third = await begin()
  t.same(third.begun(), [], 'what is noted of the future says nothing')
  await clock.advance(14.5 * hour)
  t.same(third.begun(), ['dump'], 'the schedule goes on')
  await third.end()
  clock.jump('2026-03-03T12:00:00Z')
  t.same((await begin()).begun(), ['dump'], 'and so does its account: a last start in the future hides nothing')
})

t.test('an equal run that is under way counts, and is waited for', async (t) => {
  const { begin, clock } = lives(t)
  await (await begin()).end()
  const early = await begin({ schedules: [] })
  early.runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: 'me' })
  await clock.advance(0)
  clock.jump('2026-03-01T12:00:00Z')
  const back = await begin()
  t.same(back.begun(), [])
  t.ok(back.lines.some(({ msg }) => /skipped/.test(String(msg))))
  await early.succeed('dump')
  await clock.advance(2000)
  t.same(back.begun(), ['verify'])
})

t.test('notes that nobody can read are as good as none', async (t) => {
  const { begin, clock } = lives(t)
  const first = await begin()
  for (const [index, text] of ['', '{', '{"cron":"0 2 * * *","at":"soon"}'].entries()) {
    const { job, params } = schedules[index] as Schedule
    first.store.keepFact(`schedule ${job} ${JSON.stringify(params)}`, text)
  }
  await first.end()
  clock.jump('2026-03-02T12:00:00Z')
  t.same((await begin()).begun(), [])
})

t.test('one that stood by leaves its runs to the other, and makes up for what that one did not do', async (t) => {
  const { begin, clock } = lives(t)
  let isOthers = true
  const refusal = new LifeboatError('conflict', 'the lease is held by another one')
  const { begun, runner, succeed, triggers, lines } = await begin({ refuse: () => (isOthers ? refusal : null) })
  await clock.advance(6 * hour)
  t.same(begun(), [])
  t.same(triggers(), [], 'nothing failed')
  t.match(lines, [{ job: 'dump', msg: 'scheduled run left to another lifeboat' }, { job: 'verify' }, { job: 'expire' }])
  await clock.advance(24 * hour)

  isOthers = false
  const asked: string[] = []
  runner.catchUp((job, slot) => {
    asked.push(`${job} ${slot.toISOString()}`)
    return job === 'verify'
  })
  await clock.advance(0)
  t.same(begun(), ['dump'])
  await succeed('dump')
  await clock.advance(1000)
  t.same(begun(), ['dump', 'expire'], 'the other one has verified')
  await succeed('expire')
  t.same(asked, ['dump 2026-03-02T02:00:00.000Z', 'verify 2026-03-02T04:00:00.000Z', 'expire 2026-03-02T05:00:00.000Z'])
  runner.catchUp(() => false)
  await clock.advance(1000)
  t.same(begun(), ['dump', 'expire'], 'each slot is seen to once')
})

t.test('whose the repository is, is found out before a schedule triggers', async (t) => {
  const { begin, clock } = lives(t)
  let isOthers = false
  const refusal = new LifeboatError('conflict', 'the lease is held by another one')
  const { triggers } = await begin({
    refuse: () => (isOthers ? refusal : null),
    beforeScheduled: async () => {
      isOthers = true // it was lost while this process stood still
    },
  })
  await clock.advance(6 * hour)
  t.equal(isOthers, true)
  t.same(triggers(), [], 'no run fails for that')
})

t.test('what calls people is never made up for', async (t) => {
  const { begin, clock } = lives(t)
  const [first, second] = schedules as readonly [Schedule, Schedule]
  const mixed = { schedules: [{ ...first, madeUpFor: false }, second] }
  await (await begin(mixed)).end()
  clock.jump('2026-03-02T12:00:00Z')
  const back = await begin(mixed)
  t.same(back.begun(), ['verify'])
  await back.succeed('verify')
  await clock.advance(14 * hour)
  t.same(back.begun(), ['dump', 'verify'], 'it comes when it is due')
  await back.end()
  const again = await begin(mixed)
  t.same(again.begun(), [], 'nor is one that was cut off')
})
