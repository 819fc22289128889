import fc from 'fast-check'
import t from 'tap'
import { compileKeyPattern, compilePattern, keysSince, literalPrefix } from '../../src/domain/file-pattern.ts'

const usual = compilePattern('{database}_backup_{timestamp}{ext}')

t.test('the names that scripts give', async (t) => {
  const at = new Date('2026-01-01T02:00:00Z')
  for (const ending of [
    '',
    '.sql',
    '.sql.gz',
    '.sql.zst',
    '.dump',
    '.dump.gz',
    '.tar',
    '.tar.gz',
    '.tgz',
    '.tar.zstd',
    '.bak',
    '.custom',
  ]) {
    t.same(usual(`spavix_backup_20260101_020000${ending}`), { database: 'spavix', at }, ending)
  }
  for (const time of [
    '20260101T020000Z',
    '2026-01-01_02-00-00',
    '2026-01-01T02:00:00Z',
    '2026-01-01-0200',
    '20260101020000',
    '1767232800',
    '2026_01_01_02_00_00',
    '2026.01.01-02.00.00',
    '2026-01-01 02:00',
    '2026-01-01T03:00:00+01:00',
    '20251231T203000-0530',
    '20260101_020000-1234',
    '20260101_020000.123456Z',
  ]) {
    t.same(usual(`my_app_backup_${time}.sql.gz`), { database: 'my_app', at }, time)
  }
  t.same(usual('a_backup_2026-01-01.sql'), { database: 'a', at: new Date('2026-01-01T00:00:00Z') })
  t.same(usual('a_backup_20260231_020000.sql'), { database: 'a', at: null }, 'no such day')
  t.same(usual('it\'s "odd"\n\u001b[31m_backup_20260101_020000.sql')?.database, 'it\'s "odd"\n\u001b[31m')
  for (const other of [
    'spavix_backup_20260101_020000.sql.gz.tmp',
    '.spavix_backup_20260101_020000.sql',
    '_backup_20260101_020000.sql',
    'backup.log',
    '',
  ]) {
    if (other.startsWith('.')) t.equal(usual(other)?.database, '.spavix')
    else t.equal(usual(other), null, other)
  }
})

t.test('patterns', async (t) => {
  t.same(compilePattern('{timestamp}-{database}.dump')('20260101-app.dump'), {
    database: 'app',
    at: new Date('2026-01-01T00:00:00Z'),
  })
  t.same(compilePattern('nightly*.sql.gz')('nightly-of-(all).sql.gz'), { database: null, at: null })
  t.equal(compilePattern('a.b')('axb'), null, 'a dot is a dot')
  t.ok(compilePattern('valueOf')('valueOf'), 'as is the name of something that every object has')
  for (const bad of ['', 'a/b', '{date}.sql', '{database}{database}', 'a}', '{timestamp}_{timestamp}']) {
    t.throws(() => compilePattern(bad), { code: 'usage-invalid' }, bad)
  }
  t.throws(() => compilePattern('*a*a*{database}b'), { code: 'usage-invalid', message: /more than 3/ })
  t.equal(compilePattern('*20*{timestamp}{database}b')('20260101'.repeat(31)), null, 'and it ends')
  fc.assert(
    fc.property(
      fc.string().filter((name) => !/[{}*/\0]/.test(name) && name !== ''),
      (name) => compilePattern(name)(name) !== null,
    ),
  )
  fc.assert(
    fc.property(fc.stringMatching(/^[^/\0]{1,60}$/), (name) => {
      const found = usual(name)
      return found === null || (found.database !== null && name.startsWith(found.database))
    }),
  )
})

t.test('keys of a bucket', async (t) => {
  const at = new Date('2026-03-05T00:00:00Z')
  const byDay = compileKeyPattern('dumps/{year}/{month}/{day}/{database}{ext}')
  t.same(byDay('dumps/2026/03/05/app.sql.gz'), { database: 'app', at })
  for (const other of ['dumps/2026/3/5/app.sql', 'dumps/2026/03/05/deep/app.sql', 'x/dumps/2026/03/05/app.sql'])
    t.equal(byDay(other), null, other)
  t.same(byDay('dumps/2026/02/31/app.sql'), { database: 'app', at: null }, 'no such day')
  t.same(compileKeyPattern('{database}/{year}-{month}/*')('app/2026-03/x'), {
    database: 'app',
    at: new Date('2026-03-01T00:00:00Z'),
  })
  t.same(compileKeyPattern('{day}.{month}.{year}-{hour}')('05.03.2026-07')?.at, new Date('2026-03-05T07:00:00Z'))
  t.same(
    compileKeyPattern('{year}/{database}/{month}/{timestamp}{ext}')('2025/app/01/20260305_000000.sql'),
    { database: 'app', at },
    'the whole time counts',
  )
  t.same(compileKeyPattern('{timestamp}/{database}/')('2026-03-05/app/'), { database: 'app', at })
  for (const bad of ['/a', 'a//b', '', '{year}{year}', '{week}'])
    t.throws(() => compileKeyPattern(bad), { code: 'usage-invalid' }, bad)
  t.throws(() => compilePattern('{year}'), {
    code: 'usage-invalid',
    hint: /^Placeholders are .database., .timestamp., .ext. and \*\.$/,
  })

  t.equal(literalPrefix('dumps/{year}/x'), 'dumps/')
  t.equal(literalPrefix('*'), '')
  t.equal(keysSince('dumps/{year}/{month}/{day}/x', at), 'dumps/2026/03/05')
  t.equal(keysSince('{year}{month}{day}', at), '20260305')
  t.equal(keysSince('{database}/{year}/{month}/{day}', at), null, 'not in the order of time')
})
