import t from 'tap'
import {
  compareFingerprints,
  type Fingerprint,
  type TableFingerprint,
  tableLabel,
} from '../../src/domain/fingerprint.ts'

const table = (name: string, more: Partial<TableFingerprint> = {}): TableFingerprint => ({
  schema: 'public',
  name,
  bytes: 8192,
  method: 'full',
  whole: { rows: 3, hash: '42' },
  ...more,
})
const unknown = (name: string, reason?: string): TableFingerprint => ({
  schema: 'public',
  name,
  bytes: 8192,
  method: 'unknown',
  ...(reason === undefined ? {} : { reason }),
})
const parts = (hashes: readonly string[], key = 'id') =>
  table('big', {
    method: 'ranges',
    key,
    ranges: hashes.map((hash, i) => ({ from: `${i}`, to: `${i}`, rows: 1, hash })),
  })

const base: Fingerprint = {
  formatVersion: 1,
  takenAt: '2025-01-01T00:00:00.000Z',
  lsn: '0/1',
  serverVersionNum: 150018,
  database: { encoding: 'UTF8', datcollate: 'C', datlocale: null },
  settings: ['work_mem=8MB'],
  extensions: [{ name: 'plpgsql', version: '1.0' }],
  collations: [{ name: 'pg_catalog.en_US (c)', version: '2.36' }],
  objects: { table: 1 },
  largeObjects: { rows: 0, hash: '0' },
  tables: [table('a')],
  warnings: [],
}
const compare = (expected: Partial<Fingerprint>, found: Partial<Fingerprint> = {}) =>
  Object.fromEntries(
    compareFingerprints({ ...base, ...expected }, { ...base, ...found }).map((check) => [check.name, check]),
  )
const rows = (expected: readonly TableFingerprint[], found: readonly TableFingerprint[]) =>
  compare({ tables: expected }, { tables: found }).rows

t.test('equal ones pass in everything; moment, size and warnings do not matter', async (t) => {
  const other = {
    takenAt: 'x',
    lsn: '9/9',
    serverVersionNum: 170000,
    warnings: ['w'],
    tables: [table('a', { bytes: 1 })],
  }
  const checks = Object.values(compare({}, other))
  t.same(
    checks.map(({ name, verdict }) => [name, verdict]),
    ['rows', 'objects', 'large objects', 'extensions', 'database', 'settings', 'collations'].map((n) => [n, 'pass']),
  )
  t.match(compare({ tables: [] }, { tables: [] }).rows, { verdict: 'pass', detail: '0 tables equal' }, 'empty is legal')
})

t.test('rows', async (t) => {
  t.match(rows([table('a')], [table('a', { whole: { rows: 2, hash: '42' } })]), {
    verdict: 'fail',
    detail: 'public.a has 2 rows instead of 3',
  })
  t.match(rows([table('a')], [table('a', { whole: { rows: 3, hash: '43' } })]), {
    detail: /3 rows, but not the same ones/,
  })
  t.match(rows([table('a')], []), { verdict: 'fail', detail: 'public.a is missing' })
  t.match(
    rows([unknown('a')], []),
    { verdict: 'fail', detail: 'public.a is missing' },
    'a lost table that was not hashed',
  )
  t.match(rows([], [unknown('b')]), { verdict: 'fail', detail: 'public.b was not in the source' })
  t.match(rows([table('a', { schema: 'x' })], [table('a')]), {
    verdict: 'fail',
    detail: /x\.a is missing; public\.a was not/,
  })
  t.match(rows([table('a')], [unknown('a', 'r')]), {
    verdict: 'inconclusive',
    cause: 'mostly-unknown',
    detail: /^0 tables equal, 0 % of the bytes; 1 not compared: .*\(r\)/,
  })
  t.match(rows([unknown('a')], [table('a')]), { verdict: 'inconclusive', detail: /\(not hashed\)/ })
  t.match(rows([table('a'), unknown('b', 'budget')], [table('a'), unknown('b')]), {
    verdict: 'pass',
    detail: '1 tables equal, 50 % of the bytes; 1 not compared: public.b (budget)',
  })
  const large = { ...unknown('b', 'budget'), bytes: 8193 }
  t.match(
    rows([table('a'), large], [table('a'), large]),
    { verdict: 'inconclusive', cause: 'mostly-unknown', detail: /^1 tables equal, 49 % of the bytes; 1 not compared/ },
    'most of it was not looked at',
  )
  const empty = [table('a', { bytes: 0 }), { ...unknown('b'), bytes: 0 }, { ...unknown('c'), bytes: 0 }]
  t.match(rows(empty, empty), { verdict: 'inconclusive' }, 'without bytes, the tables are counted')

  t.match(rows([table('a'), unknown('b')], [table('a', { whole: { rows: 0, hash: '0' } }), unknown('b')]), {
    verdict: 'fail',
  })
  const { whole: _, ...bare } = table('a')
  t.match(rows([bare], [bare]), { verdict: 'fail', detail: /no hash to compare/ }, 'no evidence is no equality')
  const many = Array.from({ length: 7 }, (_, i) => table(`t${i}`))
  t.match(rows(many, []), { detail: /t4 is missing; and 2 more$/ })
})

t.test('rows of key ranges', async (t) => {
  t.match(rows([parts(['1', '2'])], [parts(['1', '2'])]), {
    verdict: 'pass',
    detail: '1 tables equal (1 of them by key ranges)',
  })
  t.match(rows([parts(['1', '2'])], [parts(['1', '3'])]), { verdict: 'fail' })
  t.match(rows([parts(['1', '2'])], [parts(['1'])]), { verdict: 'fail', detail: /no hash to compare/ })
  t.match(rows([parts([])], [parts([])]), { verdict: 'fail', detail: /no hash to compare/ }, 'nothing compared')
  t.match(rows([parts(['1'])], [parts(['1'], 'other')]), { verdict: 'fail', detail: /no hash/ }, 'another key')
  t.match(rows([parts(['1'])], [table('big')]), { verdict: 'fail', detail: /by ranges, but by full here/ })
})

t.test('large objects', async (t) => {
  const lo = (largeObjects: Fingerprint['largeObjects'], found: Fingerprint['largeObjects'], count = 2) =>
    compare({ largeObjects, objects: { 'large object': count } }, { largeObjects: found })['large objects']
  const two = { rows: 2, hash: '7' }
  t.match(lo(two, two), { verdict: 'pass', detail: '2 equal' })
  t.match(lo(two, { rows: 1, hash: '7' }), { verdict: 'fail', detail: '1 instead of 2' })
  t.match(lo(two, { rows: 2, hash: '8' }), { verdict: 'fail', detail: /not the same/ })
  t.match(lo(two, null), { verdict: 'inconclusive', detail: /one side only/ })
  t.match(lo(null, two), { verdict: 'inconclusive', detail: /could not be read in the source/ })
  t.match(lo(null, null), { verdict: 'inconclusive' }, 'there were some, and nobody looked')
  t.match(lo(null, null, 0), { verdict: 'pass', detail: 'there are none' })
})

t.test('objects, database and settings', async (t) => {
  t.match(compare({}, { objects: { table: 2 } }).objects, { verdict: 'fail', detail: 'table: 2 instead of 1' })
  t.match(compare({}, { objects: {} }).objects, { verdict: 'fail', detail: 'table: null instead of 1' })
  t.match(compare({ objects: {} }, { objects: { view: 1 } }).objects, { verdict: 'fail' })
  t.match(compare({}, { database: { ...base.database, encoding: 'LATIN1' } }).database, {
    verdict: 'fail',
    detail: 'encoding: "LATIN1" instead of "UTF8"',
  })
  const { datlocale: _, ...older } = base.database
  t.match(compare({ database: older }, {}).database, { verdict: 'pass' }, 'a column that older servers lack')
  t.match(compare({}, { settings: ['work_mem=9MB'] }).settings, {
    verdict: 'fail',
    detail: 'missing: work_mem=8MB; not in the source: work_mem=9MB',
  })
})

t.test('versions differ without failing, names do not', async (t) => {
  t.match(compare({}, { extensions: [{ name: 'plpgsql', version: '2' }] }).extensions, {
    verdict: 'pass',
    detail: 'versions differ: plpgsql 1.0, here 2',
  })
  t.match(compare({}, { extensions: [] }).extensions, { verdict: 'fail', detail: 'missing: plpgsql' })
  t.match(compare({ extensions: [] }, {}).extensions, { verdict: 'fail', detail: 'not in the source: plpgsql' })
  const collations = (found: Fingerprint['collations']) => compare({}, { collations: found }).collations
  t.match(collations([{ name: 'pg_catalog.en_US (c)', version: '2.41' }]), {
    verdict: 'pass',
    detail: /2\.36, here 2\.41/,
  })
  t.same(collations([]), { name: 'collations', verdict: 'pass' })
})

t.test('labels stay on one line', async (t) => {
  t.equal(tableLabel({ schema: 'public', name: 'users' }), 'public.users')
  t.equal(tableLabel({ schema: 'A b', name: 'x\n"y"' }), '"A b"."x\\n\\"y\\""')
})
