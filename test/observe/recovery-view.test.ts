import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { createRecoveryView } from '../../src/observe/recovery-view.ts'
import type { Run } from '../../src/runner/job.ts'
import { at, backup, catalogOf, proof, repositoryState } from '../support/catalog.ts'
import { clockState, storedState, walState } from '../support/wal-state.ts'

const size = 16 * 2 ** 20
const full = backup(60, {
  ...{ type: 'full', database: '', id: '20260301T010000Z-full-abcdef', storedBytes: 1_000_000 },
  ...{ startLsn: '0/2000028', lsn: '0/2000138' },
})
const phases = { fetch: 10, verify: 5, start: 2, replay: 1 }
const measured = { ...proof(full, 100, { artifact: 'pass', restore: 'pass' }), measured: { phases, walBytes: size } }

function catalog(proofs: readonly (typeof measured)[]) {
  const coverage = new WalCoverage(size, new Timelines())
  coverage.segments(1).addRange(2, 9)
  const stored = [storedState('local', coverage)]
  const wal = { ...walState(), stored, clock: clockState({ lsn: 0xa000148n }) }
  return catalogOf({ at: at(600), wal, repositories: [repositoryState('local', [full], proofs)] })
}

/** A restore of that backup that took this long. */
function restore(seconds: number | null, minutes: number): Run {
  const item = { outcome: 'succeeded', backupType: 'full', database: '', backupId: full.id } as const
  const took = seconds === null ? {} : { measured: { phases: { ...phases, fetch: seconds }, walBytes: size } }
  return {
    ...{ id: '20260301T000000Z-restore-aaaa', job: 'restore', lane: 'restore', params: {}, trigger: 'cli' },
    ...{ requestedBy: null, state: 'succeeded', requestedAt: '', startedAt: null, finishedAt: null, progress: null },
    ...{ hooks: [], retries: 0, attempts: [], failure: null },
    items: [{ ...item, ...took, finishedAt: at(minutes).toISOString() }],
  }
}

const predict = (runs: readonly Run[], proofs: readonly (typeof measured)[]) =>
  createRecoveryView({ clock: null, runner: { list: () => runs } }).predictedSeconds(catalog(proofs))

t.test('a state file that cannot be read takes what it knows along, and no more', async (t) => {
  const list = () => {
    throw new LifeboatError('storage-failed', 'the disk is gone')
  }
  const view = createRecoveryView({ clock: null, runner: { list } })
  t.same(view.predictedSeconds(catalog([measured])), new Map([['local', 25]]))
})

t.test('how long it takes is learned from verifications and from restores', async (t) => {
  t.same(predict([], []), new Map(), 'nothing was measured')
  t.same(predict([restore(null, 200)], []), new Map(), 'of dumps nothing is learned')
  t.same(predict([], [measured]), new Map([['local', 10 + 5 + 2 + 8]]))
  t.same(predict([restore(30, 200)], [measured]), new Map([['local', 20 + 5 + 2 + 8]]))
  t.same(predict([restore(30, 200), restore(400, 300)], [measured]), new Map([['local', 30 + 5 + 2 + 8]]))
})
