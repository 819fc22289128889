import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { createListing } from '../../src/http/backup-list.ts'
import { type PageDependencies, renderPage } from '../../src/http/page.ts'
import type { ArchiverView } from '../../src/observe/archiver.ts'
import type { WalState } from '../../src/observe/wal-state.ts'
import { at, backup, catalogOf, proof, repositoryState } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { clockState, repositoryWal, storedState, walArchive } from '../support/wal-state.ts'
import { tokens } from './harness.ts'

const held = new WalCoverage(16 * 1024 * 1024, new Timelines())
held.segments(1).addRange(1, 4)

const good = {
  archive: walArchive(held, { capacity: { freeBytes: 50, totalBytes: 100 } }),
  stored: [storedState('local', held)],
  clock: clockState({ lsn: 0x5000000n }),
  repositories: [repositoryWal('local', { backlogSegments: 0, missingSegments: 0 })],
  slots: [],
} satisfies WalState

const idle: ArchiverView = { state: 'idle', detail: 'nothing waits', archived: 4, failed: 0, ready: 0 }
const dump = backup(540, { database: 'app' })
const proofs = [proof(dump, 545, { artifact: 'pass', restore: 'pass', data: 'pass' })]

/** What a person reads of the page of a cluster that is in order but for its WAL. */
function words(wal: WalState | null, archiver: ArchiverView | null, fields: Partial<PageDependencies> = {}): string {
  return renderPage(
    {
      catalog: () => catalogOf({ wal, archiver, repositories: [repositoryState('local', [dump], proofs)] }),
      clock: new FakeClock(at(600)),
      cluster: 'prod',
      version: '1.2.3',
      policy: { rpoSeconds: 3600, rtoSeconds: 14_400, dumpMaxAgeSeconds: 90_000, verificationMaxAgeSeconds: null },
      tokens: [],
      walWork: () => ({ shipping: null, stream: null }),
      leases: () => [],
      ...fields,
    },
    createListing(),
  )
    .replace(/<style>[\s\S]*?<\/style>/, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
}

const fine = 'Everything can be recovered'
const wrong = 'Recovery works, but something needs attention'

t.test('the WAL has a section where there is any', async (t) => {
  t.notMatch(words(null, idle), 'WAL')
  t.notMatch(
    words({ ...good, archive: null, repositories: [repositoryWal('local', { segments: 0 })] }, idle),
    'Archiver',
  )
  const text = words(good, idle)
  t.match(text, fine)
  t.match(text, /WAL Archiver idle Archive 4 segments, 64 MiB, 50 B free/)
  t.match(text, /local 2026-\S+ \S+ UTC 2 min ago 4\.0 KiB 0 0 –/)
})

t.test('what is wrong shows in the verdict, with what to do', async (t) => {
  const failing: ArchiverView = { ...idle, state: 'failing', detail: 'archive_command fails, last for <x>' }
  t.match(
    words(good, failing),
    new RegExp(`${wrong}.*failing archive_command fails, last for &lt;x&gt;. To do: the server`),
  )
  t.notMatch(words(good, failing, { tokens }), 'archive_command fails', 'not for everybody')
  const off: ArchiverView = { ...idle, state: 'off', detail: 'archive_mode is off' }
  t.match(words(good, off), wrong)
  const stream = {
    ...({ phase: 'streaming', slot: 'lifeboat', isUp: true, position: null, shippedTo: null } as const),
    ...{ failure: null, shipFailure: null, failures: 0, holes: 0 },
  }
  t.match(
    words(good, off, { walWork: () => ({ shipping: null, stream }) }),
    new RegExp(`${fine}.*Receiver streaming`),
    'it is received',
  )
  t.match(words(good, off, { walWork: () => ({ shipping: null, stream: { ...stream, isUp: false } }) }), wrong)
  const full = { ...good.archive, capacity: { freeBytes: 9, totalBytes: 100 } }
  t.match(words({ ...good, archive: full }, idle), wrong)
  const missing = [repositoryWal('local', { missingSegments: 3, recoveryPoint: null, hasBackup: false })]
  t.match(
    words({ ...good, repositories: missing }, idle),
    new RegExp(`${wrong}.*no physical backup.*lifeboat wal gaps`),
  )
  const slot = { name: 'old', type: 'physical', active: false, walStatus: 'extended', retainedBytes: 3e9 } as const
  t.match(words({ ...good, slots: [{ ...slot, overLimit: true }] }, idle), /slot old keeps 2\.8 GiB of WAL/)
  t.match(words({ ...good, slots: [{ ...slot, overLimit: false }] }, idle), fine)
  const unknown = [repositoryWal('local', { missingSegments: null, exposureBytes: null, backlogSegments: null })]
  t.match(words({ ...good, repositories: unknown }, null), fine, 'what is not known is not wrong')
})

t.test('a physical backup brings back the whole cluster, also without a dump', async (t) => {
  const without = (wal: WalState) =>
    words(wal, idle, {
      catalog: () => catalogOf({ wal, archiver: idle, repositories: [repositoryState('local', [])] }),
    })
  t.match(without(good), /The whole cluster can be recovered, but not each database.*until 2026-03-01 09:58:00 UTC/)
  t.match(without(good), /There is no dump of it; a physical backup and its WAL.* Until 2026-03-01 09:58:00 UTC/)
  const none = [repositoryWal('local', { missingSegments: 0, recoveryPoint: null, hasBackup: false })]
  t.match(without({ ...good, repositories: none }), 'Nothing can be recovered', 'WAL alone brings nothing back')
  t.match(without({ ...good, repositories: none }), 'Cannot be recovered: there is no backup')
})
