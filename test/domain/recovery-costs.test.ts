import t from 'tap'
import { type MeasuredRestore, recoveryCosts } from '../../src/domain/recovery-costs.ts'
import type { PlanBackup, RecoveryPlan } from '../../src/domain/recovery-plan.ts'

const size = 16 * 2 ** 20
const [mega, giga] = [1e6, 1e9]
const place = (segment: number) => ({ timeline: 1, lsn: BigInt(segment) * BigInt(size) })

function backup(id: string, fields: Partial<PlanBackup> = {}): PlanBackup {
  return {
    ...{ id, type: 'full', parent: null, start: place(10), stop: place(11), finishedAt: new Date(0) },
    ...{ storedBytes: giga, plainBytes: 3 * giga, sourceBytes: 3.1 * giga, serverVersion: '17.2' },
    ...{ isRefuted: false, isProven: true, otherCluster: null },
    ...fields,
  }
}

const full = backup('full')
const child = backup('child', { type: 'incremental', parent: 'full', storedBytes: 100 * mega, plainBytes: 200 * mega })
const backups = [full, child]

function plan(chain: readonly PlanBackup[], segments: number): RecoveryPlan {
  return {
    ...{ chain, timeline: 1, stop: { kind: 'end' }, from: place(10), to: place(10 + segments), segments },
    backupBytes: chain.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  }
}

let day = 0
const measure = (of: string, phases: Readonly<Record<string, number>>, walBytes = size): MeasuredRestore => ({
  ...{ backup: of, phases, walBytes },
  at: new Date(++day * 86_400_000),
})
const all = { fetch: 100, verify: 50, start: 2, replay: 1 }

const costs = (of: RecoveryPlan, measured: readonly MeasuredRestore[], storedWalBytes: number | null = 5 * mega) =>
  recoveryCosts(of, { segmentSize: size, backups, measured, storedWalBytes: () => storedWalBytes, reached: null })

t.test('bytes: as stored, or whole segments and that said', async (t) => {
  t.match(costs(plan([full], 4), []), {
    walBytes: { bytes: 5 * mega, isUpperBound: false },
    fetchBytes: giga + 5 * mega,
    segments: 4,
  })
  t.match(costs(plan([full], 4), [], null), { walBytes: { bytes: 4 * size, isUpperBound: true } })
})

t.test('room: a chain is there twice, until it is combined', async (t) => {
  const wal = 4 * size * 2
  t.same(costs(plan([full], 4), []).disk, { data: 3.1 * giga, unpacked: 0, wal, peak: 3.1 * giga + wal })
  const unpacked = 3.2 * giga
  t.same(costs(plan([full, child], 4), []).disk, { data: unpacked, unpacked, wal, peak: 2 * unpacked })
  t.equal(costs(plan([full], 10_000), []).disk.wal, 1.5 * 2 ** 30, 'however much there is to replay')
})

t.test('time: unknown is not zero', async (t) => {
  t.same(costs(plan([full], 4), []).time, {
    seconds: null,
    phases: { fetch: null, verify: null, combine: 0, start: null, replay: null },
    measured: 0,
  })
  t.same(costs(plan([full], 4), [measure('full', all)]).time, {
    seconds: 156,
    phases: { fetch: 100, verify: 50, combine: 0, start: 2, replay: 4 },
    measured: 1,
  })
  t.equal(costs(plan([full], 0), [measure('full', { fetch: 100, verify: 50, start: 2 })]).time.seconds, 152)
  t.equal(costs(plan([full, child], 4), [measure('full', all)]).time.seconds, null, 'no chain was ever combined')
  t.match(costs(plan([full, child], 4), [measure('child', { ...all, combine: 20 })]).time, {
    phases: { combine: 20 },
    seconds: 176,
  })
})

t.test('time: one that was slow, or small, does not count for much', async (t) => {
  const of = (...fetch: readonly number[]) => fetch.map((one) => measure('full', { ...all, fetch: one }))
  t.equal(costs(plan([full], 4), of(900, 10, 11, 12, 13, 5000)).time.phases.fetch, 12, 'the median of the last five')
  t.equal(costs(plan([full], 4), of(10, 20)).time.phases.fetch, 15)
  const tiny = measure('full', { ...all, replay: 0.2 }, 4096)
  t.equal(costs(plan([full], 400), [tiny]).time.phases.replay, null, 'a page tells nothing of six gigabytes')
  t.equal(costs(plan([full], 64), [measure('full', all)]).time.phases.replay, 64)
  t.equal(costs(plan([full], 65), [measure('full', all)]).time.phases.replay, null)
  t.equal(costs(plan([full], 4), [measure('expired', all)]).time.phases.fetch, null, 'nobody knows how large it was')
})

t.test('the replay stops where the moment was, as far as it is known', async (t) => {
  const to = { ...plan([full], 100), stop: { kind: 'time', at: new Date(0), text: '', mayEnd: true } } as const
  const options = { segmentSize: size, backups, measured: [], storedWalBytes: () => null }
  t.match(recoveryCosts(to, { ...options, reached: place(13) }), { stopsAt: place(13), segments: 3 })
  t.match(recoveryCosts(to, { ...options, reached: place(200) }), { stopsAt: place(110), segments: 100 })
  t.match(recoveryCosts(plan([full], 100), { ...options, reached: place(13) }), { segments: 100 })
})
