import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { clockBounds } from '../../src/domain/recovery-point.ts'
import { lineage, type Stretch, type TimelineSwitch } from '../../src/domain/timeline.ts'
import { createLsnClock, type LsnClock } from '../../src/observe/lsn-clock.ts'
import type { LsnClockProbe, LsnSample } from '../../src/postgres/lsn-clock.ts'
import { historyError } from '../../src/runner/history-file.ts'
import { migrate } from '../../src/runner/history-schema.ts'
import { LsnClockRows } from '../../src/runner/lsn-clock-rows.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'

const systemIdentifier = '7500000000000000001'
const segmentSize = 1024 * 1024
const signal = new AbortController().signal

function memoryRows(): { readonly db: DatabaseSync; readonly rows: LsnClockRows } {
  const db = new DatabaseSync(':memory:')
  migrate(db)
  const direct = <T>(work: () => T): T => {
    try {
      return work()
    } catch (error) {
      throw historyError(error, 'test.db')
    }
  }
  return { db, rows: new LsnClockRows(db, { read: direct, write: direct }) }
}

/** A server as far as its clock and its WAL go, and a sidecar that looks at it. */
class Simulation {
  readonly clock = new FakeClock()
  readonly rows = memoryRows().rows
  readonly lines: Record<string, unknown>[]
  readonly #log: ReturnType<typeof keptLog>['log']
  /** What the server has of its commits: those that were lost with it are gone. */
  commits: { readonly lsn: bigint; readonly at: number }[] = []
  readonly switches: TimelineSwitch[] = []
  /** What was seen, for the naive model. */
  readonly samples: { timeline: number; lsn: bigint; state: string; at: number }[] = []
  timeline = 1
  lsn = 0x100100n
  serverOffset = 0
  #start = 0
  lsnClock: LsnClock

  constructor() {
    const { log, lines } = keptLog()
    this.#log = log
    this.lines = lines
    this.lsnClock = this.restartSidecar()
  }

  restartSidecar(): LsnClock {
    const probe: LsnClockProbe = { sample: async () => this.#sample(), close: async () => {} }
    this.lsnClock = createLsnClock({ probe, store: this.rows, clock: this.clock, log: this.#log })
    return this.lsnClock
  }

  /** The server's clock. */
  now(): number {
    return this.clock.now().getTime() + this.serverOffset
  }

  #sample(): LsnSample {
    const { timeline, lsn } = this
    const at = this.now()
    // As numbers of transactions: counted from what is left of them.
    const state = `${this.#start} ${this.commits.length}`
    this.samples.push({ timeline, lsn, state, at: Math.min(at, this.clock.now().getTime()) })
    return { systemIdentifier, timeline, state, lsn, at, serverAt: at, segmentSize, inRecovery: false }
  }

  look() {
    return this.lsnClock.look(signal)
  }

  write(bytes: number): void {
    this.lsn += BigInt(bytes)
    if (this.lsn % 8192n <= 0x28n) this.lsn += 0x30n // the header of a page
  }

  commit(bytes: number): void {
    this.write(bytes)
    this.commits.push({ lsn: this.lsn, at: this.now() })
  }

  crash(lost: number): void {
    this.#start += 1
    this.#cut(lost)
  }

  /** A standby that has not got everything takes over. */
  promote(lost: number): void {
    this.#cut(lost)
    this.switches.push({ timeline: this.timeline, lsn: this.lsn, reason: '' })
    this.timeline += 1
    this.#start += 1
  }

  #cut(lost: number): void {
    const begin = this.switches.at(-1)?.lsn ?? 0x100100n
    this.lsn = this.lsn - BigInt(lost) < begin ? begin : this.lsn - BigInt(lost)
    this.commits = this.commits.filter(({ lsn }) => lsn <= this.lsn)
  }

  stretches(): readonly Stretch[] {
    return lineage({ timeline: this.timeline, switches: this.switches })
  }

  covered(end: bigint) {
    return this.lsnClock.covered(systemIdentifier, clockBounds(this.stretches(), end), this.clock.now())
  }
}

type Op = readonly [
  'commit' | 'noise' | 'pass' | 'look' | 'sidecar' | 'crash' | 'restart' | 'promote' | 'jump' | 'thin',
  number,
]

async function perform(simulation: Simulation, [name, amount]: Op): Promise<void> {
  switch (name) {
    case 'commit':
      return simulation.commit(40 + amount)
    case 'noise':
      return simulation.write(8 * amount)
    case 'pass':
      return simulation.clock.advance(amount * 40)
    case 'look':
      await simulation.look()
      return
    case 'sidecar':
      simulation.restartSidecar()
      return
    case 'crash':
      return simulation.crash(amount)
    case 'restart':
      return simulation.crash(0)
    case 'promote':
      return simulation.promote(amount)
    case 'jump':
      // Seen before anything is committed by it: nobody could know otherwise.
      simulation.serverOffset = (amount - 100) * 1000
      await simulation.look()
      return
    case 'thin':
      simulation.rows.save([], null, simulation.clock.now().getTime() + amount * 86_400_000)
  }
}

const amount = fc.integer({ min: 0, max: 200 })
const quiet = ['commit', 'commit', 'noise', 'pass', 'pass', 'look', 'look', 'look', 'restart'] as const

await t.test('what is covered is there, whatever happens', async (t) => {
  const all = [...quiet, 'sidecar', 'crash', 'promote', 'jump', 'thin'] as const
  const op = fc.tuple(fc.constantFrom(...all), amount)
  let found = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(op, { maxLength: 60, size: 'max' }),
      fc.array(amount, { minLength: 1, maxLength: 8 }),
      async (ops, ends) => {
        const simulation = new Simulation()
        for (const one of ops) {
          await perform(simulation, one)
          for (const part of ends) {
            const end = 0x100000n + ((simulation.lsn - 0x100000n) * BigInt(part)) / 200n
            const covered = simulation.covered(end)
            if (covered === null) continue
            found += 1
            const lost = simulation.commits.find(({ lsn, at }) => lsn > end && at < covered.at.getTime())
            if (lost !== undefined) throw new Error(`${covered.at.toISOString()} is too late for ${end}`)
            if (covered.at > simulation.clock.now()) throw new Error('it is in the future')
          }
        }
      },
    ),
    { numRuns: 300 },
  )
  t.ok(found > 500, `${found} answers`)
})

await t.test('where everything before a moment was written', async (t) => {
  const op = fc.tuple(fc.constantFrom(...quiet, 'promote', 'sidecar'), amount)
  let found = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(op, { maxLength: 60, size: 'max' }),
      fc.array(amount, { maxLength: 8 }),
      async (ops, parts) => {
        const simulation = new Simulation()
        const begin = simulation.clock.now().getTime()
        for (const one of ops) await perform(simulation, one)
        for (const part of parts) {
          const wanted = new Date(begin + ((simulation.clock.now().getTime() - begin) * part) / 200)
          const place = simulation.lsnClock.reached(
            systemIdentifier,
            clockBounds(simulation.stretches(), simulation.lsn),
            wanted,
          )
          if (place === null) continue
          found += 1
          const after = simulation.commits.find(({ lsn, at }) => lsn > place.lsn && at < wanted.getTime())
          if (after !== undefined) throw new Error(`${place.lsn} is too early for ${wanted.toISOString()}`)
        }
      },
    ),
    { numRuns: 200 },
  )
  t.ok(found > 200, `${found} answers`)
})

await t.test('nothing that is covered is left out', async (t) => {
  const op = fc.tuple(fc.constantFrom(...quiet, 'promote'), amount)
  let found = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(op, { maxLength: 60, size: 'max' }),
      fc.array(amount, { minLength: 1, maxLength: 8 }),
      async (ops, ends) => {
        const simulation = new Simulation()
        for (const one of ops) await perform(simulation, one)
        for (const part of ends) {
          const end = 0x100000n + ((simulation.lsn - 0x100000n) * BigInt(part)) / 200n
          const naive = naivePoint(simulation, end)
          found += naive === null ? 0 : 1
          const covered = simulation.covered(end)
          if ((covered?.at.getTime() ?? null) !== naive)
            throw new Error(`${covered?.at.getTime()} instead of ${naive} for ${end}`)
        }
      },
    ),
    { numRuns: 300 },
  )
  t.ok(found > 500, `${found} answers`)
})

/** Sample by sample: the newest that is covered, by its place or since nothing was committed since the one before. */
function naivePoint({ samples, switches, timeline }: Simulation, end: bigint): number | null {
  let point: number | null = null
  let before = false
  for (const [index, sample] of samples.entries()) {
    const fork = sample.timeline === timeline ? null : switches.find((one) => one.timeline === sample.timeline)?.lsn
    const former = samples[index - 1]
    const isSame = former?.state === sample.state && former.timeline === sample.timeline
    before = (sample.lsn <= end && (fork == null || sample.lsn <= fork)) || (before && isSame)
    if (before) point = sample.at
  }
  return point
}

await t.test('an idle server reaches the present, also over a restart of the sidecar', async (t) => {
  const simulation = new Simulation()
  simulation.commit(100)
  simulation.lsn = 0x200028n // a segment was finished
  await simulation.look()
  const end = 0x200000n
  t.match(simulation.covered(end), { at: simulation.clock.now(), isNewest: true })
  simulation.lsn = 0x200060n // the server notes running transactions
  await simulation.clock.advance(5000)
  await simulation.look()
  t.match(simulation.covered(end), { at: simulation.clock.now(), isNewest: true })
  await simulation.lsnClock.close()
  t.match(simulation.restartSidecar().remembered, { lsn: 0x200060n, timeline: 1, at: simulation.clock.now() })
  await simulation.clock.advance(60_000)
  await simulation.look()
  t.match(simulation.covered(end), { at: simulation.clock.now(), isNewest: true })
  const last = simulation.clock.now()
  simulation.commit(100)
  await simulation.clock.advance(5000)
  await simulation.look()
  t.match(simulation.covered(end), { at: last, isNewest: false }, 'until something is committed')
  await simulation.clock.advance(3_600_000)
  t.match(simulation.covered(end), { at: last }, 'while the server is down it stands still')
})

await t.test('a clock that was ahead for a while', async (t) => {
  const simulation = new Simulation()
  // That of the sidecar is the same: they share a machine.
  const start = simulation.clock.now().getTime()
  const step = async () => {
    simulation.commit(100)
    await simulation.clock.advance(5000)
    await simulation.look()
    return simulation.lsn
  }
  await step()
  simulation.clock.jump(new Date(start + 3_600_000))
  const ahead = await step()
  t.equal(simulation.covered(ahead)?.at.getTime(), simulation.clock.now().getTime())
  await step()
  simulation.clock.jump(new Date(start + 15_000))
  await step()
  const right = start + 20_000
  t.equal(simulation.covered(ahead)?.at.getTime(), right, 'not what the wrong clock showed')
  simulation.restartSidecar()
  for (let more = 0; more < 10; more += 1) await step()
  t.equal(simulation.covered(ahead)?.at.getTime(), right)
})

await t.test('a full disk ends nothing, and is told once', async (t) => {
  const { db, rows } = memoryRows()
  const simulation = new Simulation()
  const { log, lines } = keptLog()
  const probe: LsnClockProbe = {
    sample: async () => {
      simulation.commit(100)
      const at = simulation.now()
      const { lsn, commits } = simulation
      return {
        systemIdentifier,
        timeline: 1,
        state: `${commits.length}`,
        lsn,
        at,
        serverAt: at,
        segmentSize,
        inRecovery: false,
      }
    },
    close: async () => {},
  }
  const make = () => createLsnClock({ probe, store: rows, clock: simulation.clock, log })
  const lsnClock = make()
  const look = async () => {
    await simulation.clock.advance(5000)
    await lsnClock.look(signal)
  }
  const covered = (end: bigint, by = lsnClock) =>
    by.covered(systemIdentifier, [{ timeline: 1, lsn: end }], simulation.clock.now())?.at
  await look()
  const first = [simulation.lsn, simulation.clock.now()] as const
  db.exec(`pragma max_page_count = ${Number(db.prepare('pragma page_count').get()?.page_count)}`)
  for (let round = 0; round < 2500; round += 1) await look()
  t.same(covered(simulation.lsn), simulation.clock.now(), 'it goes on in memory')
  t.same(covered(first[0]), first[1])
  const warned = lines.filter(({ level }) => level === 40)
  t.match(warned, [{ failure: { code: 'disk-full' }, msg: /cannot be kept/ }], 'told once')
  t.ok(Number(db.prepare('select count(*) as n from lsn_clock').get()?.n) < 2000)
  db.exec('pragma max_page_count = 100000')
  await look()
  const kept = Number(db.prepare('select count(*) as n from lsn_clock').get()?.n)
  t.ok(kept > 1990, `${kept} are kept when there is room again`)
  t.same(covered(simulation.lsn, make()), simulation.clock.now(), 'and known after a restart')
})

await t.test('what grows is written now and then, and a restart loses no more than that', async (t) => {
  const { db, rows } = memoryRows()
  const simulation = new Simulation()
  let writes = 0
  const store = Object.assign(Object.create(rows) as LsnClockRows, {
    save: (...args: Parameters<LsnClockRows['save']>) => {
      writes += 1
      return rows.save(...args)
    },
    newest: () => rows.newest(),
    newestCovered: rows.newestCovered.bind(rows),
    leastAfter: rows.leastAfter.bind(rows),
  })
  const { log } = keptLog()
  const sample = async (): Promise<LsnSample> => {
    const at = simulation.now()
    return { systemIdentifier, timeline: 1, state: 'x', lsn: 5n, at, serverAt: at, segmentSize, inRecovery: false }
  }
  const make = () => createLsnClock({ probe: { sample, close: async () => {} }, store, clock: simulation.clock, log })
  const lsnClock = make()
  for (let round = 0; round < 100; round += 1) {
    await lsnClock.look(signal)
    await simulation.clock.advance(1000)
  }
  t.equal(writes, 10)
  t.equal(Number(db.prepare('select count(*) as n from lsn_clock').get()?.n), 1)
  const after = make().covered(systemIdentifier, [{ timeline: 1, lsn: 5n }], simulation.clock.now())
  t.ok(simulation.clock.now().getTime() - (after?.at.getTime() ?? 0) <= 11_000)
})

await t.test('a look that fails leaves everything as it is', async (t) => {
  const { rows } = memoryRows()
  const { log } = keptLog()
  const sample = async () => {
    throw new LifeboatError('server-unreachable', 'nobody there')
  }
  const lsnClock = createLsnClock({
    probe: { sample, close: async () => {} },
    store: rows,
    clock: new FakeClock(),
    log,
  })
  await t.rejects(lsnClock.look(signal), { code: 'server-unreachable' })
  t.equal(lsnClock.remembered, null)
  t.equal(lsnClock.covered(systemIdentifier, [{ timeline: 1, lsn: 5n }], new Date()), null)
})
