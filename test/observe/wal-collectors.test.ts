import t, { type Test } from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { createObserver } from '../../src/observe/observer.ts'
import { type WalSources, walCollector } from '../../src/observe/wal-collectors.ts'
import { at } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { clockState, storedState, walArchive } from '../support/wal-state.ts'

function observe(t: Test, wal: WalSources | null) {
  const clock = new FakeClock(at(600))
  const observer = createObserver({
    ...{ repositories: [], watches: [], server: null, archiver: null, databases: null, wal, clock },
    ...{ log: keptLog().log, intervalSeconds: 60, timeoutSeconds: 10 },
    history: { jobs: () => [], backupFailures: () => [] },
  })
  t.teardown(() => observer.stop())
  return { clock, observer }
}

t.test('what looks at the WAL, and when', async (t) => {
  const size = 16 * 1024 * 1024
  const coverage = new WalCoverage(size, new Timelines())
  coverage.segments(1).addRange(1, 5)
  const looks = new Map<string, number>()
  const closed: string[] = []
  const counted = <T>(name: string, value: () => T) => ({
    look: async () => {
      looks.set(name, (looks.get(name) ?? 0) + 1)
      return value()
    },
    close: async () => void closed.push(name),
  })
  let isDown = false
  const { clock, observer } = observe(t, {
    archive: counted('archive', () => walArchive(coverage)),
    stored: [{ repository: 'local', ...counted('stored', () => storedState('local', coverage)) }],
    clock: {
      ...counted('clock', () => {
        if (isDown) throw new LifeboatError('server-unreachable', 'nobody there')
        return clockState({ lsn: BigInt(size) * 6n + 100n, at: clock.now() })
      }),
      remembered: clockState({ lsn: 7n }),
      covered: () => ({ at: at(599), isNewest: false }),
      reached: () => null,
    },
    ...{ clockSeconds: 5, slots: async () => [], holes: [] },
  })
  t.equal(observer.catalog().wal?.clock?.lsn, 7n, 'as an earlier process saw it')
  t.equal(observer.catalog().wal?.slots, null)
  observer.start()
  await clock.advance(0)
  const { wal, collectors, complete } = observer.catalog()
  t.equal(complete, true)
  t.same(
    collectors.map(({ collector }) => collector),
    ['wal-archive', 'wal:local', 'lsn-clock', 'slots', 'history'],
  )
  t.match(wal, { slots: [], archive: { segments: 5 }, repositories: [{ coveredUntil: at(599), exposureBytes: 100 }] })

  await clock.advance(20_000)
  t.equal(looks.get('clock'), 5, 'every five seconds')
  t.equal(looks.get('stored'), 1)
  for (let burst = 0; burst < 100; burst += 1) observer.hint(walCollector('local'))
  observer.hint('wal-archive')
  observer.hint('history')
  observer.hint('nobody')
  await clock.advance(60)
  t.equal(looks.get('stored'), 2, 'a burst is one look')
  t.equal(looks.get('archive'), 2)
  t.equal(looks.get('clock'), 6, 'a new segment is a moment to note')
  for (let segment = 0; segment < 100; segment += 1) {
    observer.hint('wal-archive')
    await clock.advance(20)
  }
  t.equal(looks.get('clock'), 8, 'but not each one of many')

  const before = looks.get('archive')
  isDown = true
  const seen = observer.catalog().wal?.clock?.at
  await clock.advance(30_000)
  t.same(observer.catalog().wal?.clock?.at, seen, 'it stays where it was seen last')
  t.match(
    observer.catalog().collectors.find(({ collector }) => collector === 'lsn-clock'),
    { success: false },
  )
  await observer.stop()
  t.same(closed.toSorted(), ['archive', 'clock', 'stored'])
  observer.hint('wal-archive')
  await clock.advance(1000)
  t.equal(looks.get('archive'), before)
})

t.test('nobody looks at the WAL', async (t) => {
  const { observer } = observe(t, null)
  t.equal(observer.catalog().wal, null)
  observer.hint('wal-archive')
})
