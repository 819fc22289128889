import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import type { ArchiverView } from '../../src/observe/archiver.ts'
import { createWalNews } from '../../src/observe/wal-news.ts'
import type { WalState } from '../../src/observe/wal-state.ts'
import { catalogOf } from '../support/catalog.ts'
import { keptLog } from '../support/log.ts'
import { clockState, repositoryWal, walArchive } from '../support/wal-state.ts'

const archive = walArchive(new WalCoverage(16 * 1024 * 1024, new Timelines()))
const clock = clockState({ lsn: 0x5000000n })
const whole = repositoryWal('local', { missingSegments: 0 })
const good = { archive, stored: [], clock, repositories: [whole], slots: [] } satisfies WalState

function newsOf(mustArchive = true) {
  const { log, lines } = keptLog()
  const tell = createWalNews({ log, mustArchive })
  /** What a catalog says that was not said before. */
  return (wal: WalState | null, state: ArchiverView['state'] = 'idle') => {
    const before = lines.length
    const archiver = { state, detail: 'why', archived: 1, failed: 0, ready: 0 }
    tell(catalogOf({ wal, archiver }))
    return lines.slice(before)
  }
}

t.test('the archiver', async (t) => {
  const news = newsOf()
  t.same(news(good), [], 'nothing is wrong, and nothing was')
  t.match(news(good, 'failing'), [{ level: 50, state: 'failing', detail: 'why', hint: /server's log/ }])
  t.same(news(good, 'failing'), [], 'once')
  t.same(news(good, null), [], 'what is not known is not over')
  t.match(news(good, 'hung'), [{ level: 50, state: 'hung' }], 'something else')
  t.match(news(good, 'archiving'), [{ level: 30, msg: /again/ }])
  t.match(news(null, 'off'), [{ level: 50, hint: /wal setup/ }])
  t.same(newsOf(false)(good, 'off'), [], 'nobody wants it on')
})

t.test('what is missing, an archive that fills up, slots', async (t) => {
  const news = newsOf()
  const lacking = (missingSegments: number, ...gaps: readonly number[]) => ({
    ...good,
    repositories: [
      {
        ...whole,
        missingSegments,
        gaps: gaps.map((first) => ({ timeline: 1, first, last: first, acknowledged: null })),
      },
    ],
  })
  t.match(news(lacking(1, 3)), [
    { level: 50, repository: 'local', first: '000000010000000000000003', hint: /wal gaps/ },
  ])
  t.same(news(lacking(1, 3)), [])
  t.match(news(lacking(2, 3, 7)), [{ missingSegments: 2 }])
  t.match(news(lacking(0)), [{ level: 30, repository: 'local' }])
  const free = (freeBytes: number) => ({ ...good, archive: { ...archive, capacity: { freeBytes, totalBytes: 100 } } })
  t.same(news(free(10)), [])
  t.match(news(free(9)), [{ level: 50, directory: '/archive', hint: /keepInArchive/ }])
  t.same(news({ ...good, archive: null }), [], 'not known')
  t.match(news(free(10)), [{ level: 30 }])
  const slot = { name: 'a b', type: 'physical', active: false, retainedBytes: 9 } as const
  t.same(news({ ...good, slots: [{ ...slot, walStatus: 'extended', overLimit: false }] }), [])
  t.match(news({ ...good, slots: [{ ...slot, walStatus: 'extended', overLimit: true }] }), [{ level: 50, slot: 'a b' }])
  t.match(news({ ...good, slots: [{ ...slot, walStatus: 'lost', overLimit: false }] }), [{ level: 50, msg: /given/ }])
  t.same(news({ ...good, slots: null }), [], 'not known')
  t.match(news(good), [{ level: 30, slot: 'a b', msg: /gone/ }])
})
