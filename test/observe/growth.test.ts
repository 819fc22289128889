import t from 'tap'
import type { Fingerprint } from '../../src/domain/fingerprint.ts'
import { compareGrowth } from '../../src/domain/growth-tables.ts'
import type { BackupSummary, Catalog } from '../../src/observe/catalog.ts'
import { createGrowth, deviations } from '../../src/observe/growth.ts'
import { backup, catalogOf, repositoryState, serverState } from '../support/catalog.ts'
import { fingerprintOf } from '../support/fingerprint.ts'
import { keptLog } from '../support/log.ts'

const bounds = { shrinkBelow: 0.7, growAbove: 1.5 }
/** A dump of each night, the newest last. */
const nights = (sizes: readonly number[], fields: Partial<BackupSummary> = {}): BackupSummary[] =>
  sizes.map((storedBytes, number) => backup(number * 1440, { storedBytes, ...fields, id: `night-${number}` }))
const catalog = (backups: readonly BackupSummary[]) =>
  catalogOf({ at: new Date('2027-01-01T00:00:00Z'), repositories: [repositoryState('local', backups)] })

/** The fingerprint of a database with one table of so many rows. */
const print = (rows: number) =>
  fingerprintOf([{ schema: 'public', name: 'orders', bytes: 8192, method: 'full', whole: { rows, hash: '1' } }])

/** What is said and known of the newest of some backups, whose fingerprints count so many rows. */
async function explained(
  of: Catalog,
  rows: (id: string) => number | null | Error | Fingerprint,
  { stop = new AbortController(), ending }: { stop?: AbortController; ending?: () => void } = {},
) {
  let open = 0
  const { log, lines } = keptLog()
  const reads: string[] = []
  const growth = createGrowth({
    bounds,
    log,
    signal: stop.signal,
    reader: (repository) => {
      open += 1
      let held: Fingerprint | null = null
      const read = async (id: string) => {
        reads.push(`${repository} ${id}`)
        const found = rows(id)
        if (found instanceof Error) throw found
        return typeof found === 'number' ? print(found) : found
      }
      return {
        hold: async (id) => {
          held = await read(id)
          return held !== null
        },
        compare: async (id) => {
          const found = await read(id)
          return found === null || held === null ? null : compareGrowth(found, held)
        },
        end: async () => {
          open -= 1
          ending?.()
        },
      }
    },
  })
  growth.look(of)
  await growth.settled()
  if (open > 0) throw new Error('a reader was not ended')
  return { growth, lines, reads }
}

t.test('each database, and each repository, for itself', async (t) => {
  const app = nights([100, 100, 104, 10])
  const crm = nights([10, 10, 10, 10], { database: 'crm' })
  const repositories = [repositoryState('local', [...app, ...crm]), repositoryState('offsite', app.slice(0, 3))]
  const found = deviations(catalogOf({ at: new Date('2027-01-01'), repositories }), bounds)
  t.same(
    found.map(({ repository, backup: { database }, size: { ratio }, usual }) => [
      repository,
      database,
      ratio,
      usual.id,
    ]),
    [
      ['local', 'app', 0.1, 'night-1'],
      ['local', 'crm', 1, 'night-2'],
    ],
  )
})

t.test('the line says which backup, by how much, and which table it is', async (t) => {
  const { growth, lines, reads } = await explained(catalog(nights([100, 102, 98, 5])), (id) =>
    id === 'night-3' ? 3 : 1_000_000,
  )
  t.match(lines, [
    {
      level: 40,
      msg: 'backup of app in local is unusually small: 5% of its usual size (5 instead of 100 bytes), 0.0003% of its usual rows; changed since night-0: public.orders (1,000,000 to 3 rows)',
      repository: 'local',
      backup: 'night-3',
      type: 'dump',
      database: 'app',
      storedBytes: 5,
      usualBytes: 100,
      ratio: 0.05,
      sourceRatio: 1,
      rowsRatio: 0.000003,
      comparedWith: 'night-0',
      tables: [{ table: 'public.orders', change: 'changed', rowsBefore: 1_000_000, rowsAfter: 3 }],
    },
  ])
  t.equal(lines.length, 1)
  t.same(reads.toSorted(), ['local night-0', 'local night-1', 'local night-2', 'local night-3'])
  t.match(growth.of('local', 'night-3'), {
    isUnusual: true,
    deviation: { size: { isUnusual: true } },
    report: { differing: 1 },
  })
  t.equal(growth.of('local', 'night-2'), null)
})

t.test('told of once, until there is another one', async (t) => {
  const usual = [100, 100, 100, 100, 100]
  const first = catalog(nights([...usual, 5]))
  const { growth, lines, reads } = await explained(first, () => 10)
  const before = reads.length
  growth.look({ ...first, at: new Date('2027-01-02T00:00:00Z') })
  growth.look(catalog([...(first.repositories[0]?.backups ?? [])]))
  await growth.settled()
  t.equal(lines.length, 1)
  t.equal(reads.length, before, 'nor is anything read again')
  growth.look(catalog(nights([...usual, 5, 5])))
  await growth.settled()
  t.equal(lines.length, 2)
  t.equal(growth.of('local', 'night-5'), null)
})

t.test('rows', async (t) => {
  const same = catalog(nights([100, 100, 100, 100]))
  const gone = await explained(same, (id) => (id === 'night-3' ? 1 : 10))
  t.match(gone.lines, [
    {
      msg: /^backup of app in local is unusually small: 100% of its usual size \(100 instead of 100 bytes\), 10% of its/,
    },
  ])
  t.match(gone.growth.of('local', 'night-3'), {
    isUnusual: true,
    deviation: { size: { isUnusual: false } },
    report: { areRowsUnusual: true },
  })

  const more = await explained(same, (id) => (id === 'night-3' ? 30 : 10))
  t.match(more.lines, [{ msg: /unusually large/ }])

  const swinging = await explained(same, (id) => (id === 'night-3' || id === 'night-1' ? 1 : 10))
  t.same(swinging.lines, [], 'it was as few before')
  t.match(swinging.growth.of('local', 'night-3')?.report, { rowsRatio: 0.1, areRowsUnusual: false })

  const within = await explained(same, (id) => (id === 'night-3' ? 9 : 10))
  t.match(within.growth.of('local', 'night-3'), { isUnusual: false })
  t.same(within.reads, ['local night-3', 'local night-2'], 'two are enough where nothing is unusual')
  t.same(within.lines, [])
})

t.test('a fingerprint that is not there or cannot be read', async (t) => {
  const small = catalog(nights([100, 100, 100, 5]))
  const none = await explained(small, () => null)
  t.match(none.lines, [
    {
      msg: /5% of its usual size \(5 instead of 100 bytes\); which tables it is nobody knows: a fingerprint is missing/,
      tables: null,
    },
  ])
  t.match(none.growth.of('local', 'night-3'), { report: null })

  const failing = await explained(small, () => new Error('no route to host'))
  t.match(
    failing.lines.map(({ msg }) => msg),
    ['fingerprint cannot be read: it explains no size', /^backup of app in local is unusually small/],
  )
  const one = await explained(catalog(nights([100, 100, 100, 100])), (id) =>
    id === 'night-0' ? new Error('gone') : id === 'night-3' ? 1 : 10,
  )
  t.match(one.lines.at(-1), { msg: /unusually small/ }, 'the others tell')
  const odd = await explained(small, () => ({ ...print(1), tables: null }) as unknown as Fingerprint)
  t.match(
    odd.lines.map(({ msg }) => msg),
    ['fingerprint cannot be read: it explains no size', /unusually small/],
  )
})

t.test('a fault of ours ends no metric', async (t) => {
  const fault = () => {
    throw new Error('oops')
  }
  const usual = await explained(catalog(nights([100, 100, 100, 100])), () => 10, { ending: fault })
  t.match(usual.lines, [{ level: 50, msg: 'a deviation could not be explained' }])
  t.match(usual.growth.of('local', 'night-3'), { report: null, isUnusual: false })
})

t.test('until the rows are known, nobody knows whether a backup of the usual size is unusual', async (t) => {
  const { log } = keptLog()
  const answer = Promise.withResolvers<boolean>()
  const reader = () => ({ hold: () => answer.promise, compare: async () => null, end: async () => {} })
  const growth = createGrowth({ bounds, log, reader, signal: new AbortController().signal })
  const isUnusual = () => growth.of('local', 'night-3')?.isUnusual
  growth.look(catalog(nights([100, 100, 100, 100])))
  t.equal(isUnusual(), null)
  answer.resolve(false)
  await growth.settled()
  t.equal(isUnusual(), false, 'it has no fingerprint')
  growth.look(catalog(nights([100, 100, 100, 5])))
  t.equal(growth.of('local', 'night-3')?.isUnusual, true, 'its size is known')
})

t.test('no table differs', async (t) => {
  const { lines } = await explained(catalog(nights([100, 100, 100, 5])), () => 10)
  t.match(lines, [
    { msg: /5% of its usual size .*, 100% of its usual rows; no table differs in rows or bytes from night-2$/ },
  ])
})

t.test('dumps of other tools are told of by their size alone', async (t) => {
  const database = 'we"ird\nname'
  const { lines, reads } = await explained(catalog(nights([100, 100, 100, 5], { type: 'external', database })), () => 1)
  t.same(reads, [])
  t.match(lines, [
    {
      database,
      msg: 'backup of "we\\"ird\\nname" in local is unusually small: 5% of its usual size (5 instead of 100 bytes); which tables it is nobody knows: only dumps by Lifeboat have a fingerprint',
    },
  ])
})

t.test('of a file of another tool the name is told', async (t) => {
  const backups = nights([100, 100, 100, 5], { type: 'external' })
  const details = (id: string) =>
    ({ file: `${id}.sql`, state: 'sound', detail: null, format: null, compression: null, notes: [] }) as const
  const nightly = { maxAgeSeconds: 60, databases: ['app'], files: new Map(), details }
  const watches = [{ ...repositoryState('nightly', backups), ...nightly }]
  const { lines } = await explained(
    catalogOf({ at: new Date('2027-01-01T00:00:00Z'), repositories: [], watches }),
    () => 1,
  )
  t.match(lines, [{ file: 'night-3.sql', msg: /^backup of app in nightly \(night-3\.sql\) is unusually small: / }])
})

t.test('after a stop nothing is said', async (t) => {
  const stop = new AbortController()
  const { lines } = await explained(
    catalog(nights([100, 100, 100, 5])),
    () => {
      stop.abort()
      return new Error('aborted')
    },
    { stop },
  )
  t.same(lines, [])
})

t.test('another cluster begins anew', async (t) => {
  const { growth } = await explained(catalog(nights([100, 100, 100, 5])), () => 10)
  t.ok(growth.of('local', 'night-3'))
  const { repositories, ...rest } = catalog(nights([100, 100, 100, 5]))
  growth.look({ ...rest, repositories, server: serverState(['app'], { systemIdentifier: '6000000000000000001' }) })
  t.equal(growth.of('local', 'night-3'), null)
})
