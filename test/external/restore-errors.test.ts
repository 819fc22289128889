import t from 'tap'
import { meaningOf, RestoreErrors } from '../../src/external/restore-errors.ts'

/** As psql 15 and 17 write them, with `--echo-errors` and VERBOSITY verbose. */
function judged(...lines: string[]) {
  const errors = new RestoreErrors()
  for (const line of lines) errors.addLine(line)
  errors.end()
  return { worst: errors.worst(), roles: errors.roles, tablespaces: errors.tablespaces }
}

t.test('lines of psql', async (t) => {
  const clean = judged(
    'psql:<stdin>:3: ERROR:  42P01: relation "public.x" does not exist',
    'LOCATION:  RangeVarGetRelidExtended, namespace.c:428',
    'psql:<stdin>:3: STATEMENT:  ALTER TABLE ONLY public.x DROP CONSTRAINT y;',
    'psql:<stdin>:4: ERROR:  55006: current user cannot be dropped',
    'psql:<stdin>:4: STATEMENT:  DROP ROLE postgres;',
  )
  t.equal(clean.worst, null, 'what --clean drops is not there')
  t.match(
    judged(
      'psql:<stdin>:3: ERROR:  42P01: relation "public.x" does not exist',
      'psql:<stdin>:3: STATEMENT:  ALTER TABLE ONLY public.x ADD CONSTRAINT y CHECK (i > 0);',
    ).worst,
    { meaning: 'fault', messages: ['relation "public.x" does not exist'] },
  )
  t.match(judged('psql:<stdin>:3: ERROR:  22012: division by zero').worst, { meaning: 'fault' }, 'the last one counts')
  t.match(judged('psql:<stdin>:3: FEHLER:  22012: Division durch Null').worst, { meaning: 'fault' }, 'in any language')
  t.equal(judged('psql:<stdin>:3: NOTICE:  00000: hello', 'psql:<stdin>:3: WARNING:  01000: well').worst, null)
  t.match(judged('psql:<stdin>:3: error: backslash commands are restricted').worst, { meaning: 'fault' })
  t.match(
    judged('psql: error: connection failed', 'psql:<stdin>:9: ERROR:  42809: invalid locale name: "xx"').worst,
    { meaning: 'locale-missing' },
    'what is missing explains the rest',
  )
  t.equal(
    judged(
      'psql:<stdin>:9: ERROR:  42501: permission denied to grant privileges as role "admin"',
      'DETAIL:  The grantor must have the ADMIN option on role "a".',
    ).worst,
    null,
    'the superuser has another name',
  )
  t.match(judged('psql:<stdin>:9: ERROR:  42501: permission denied for table a').worst, { meaning: 'fault' })
  t.same(
    judged(
      'psql:<stdin>:1: ERROR:  42704: role "b" does not exist',
      'psql:<stdin>:2: ERROR:  42704: role "it\'s "a"" does not exist',
      'psql:<stdin>:3: ERROR:  42704: role "of two',
      'psql:<stdin>:4: ERROR:  22023: invalid value for parameter "default_tablespace": "fast"',
    ),
    { worst: null, roles: ['b', 'it\'s "a"'], tablespaces: ['fast'] },
  )
})

t.test('lines of pg_restore', async (t) => {
  const query = 'could not execute query: ERROR:  '
  const torn = (message: string) =>
    judged(`pg_restore: error: pg_restore: error: ${query}${message}`, `${query}${message}`)
  t.equal(torn('unrecognized configuration parameter "transaction_timeout"').worst, null, 'two jobs at once')
  t.match(torn('type "x" does not exist').worst, { messages: ['type "x" does not exist', 'type "x" does not exist'] })
  t.match(judged('pg_restore: error: could not execute query: ERROR:  type "x" does not exist').worst, {
    meaning: 'fault',
    messages: ['type "x" does not exist'],
  })
  t.same(judged('pg_restore: error: could not execute query: ERROR:  role "a" does not exist').roles, ['a'])
  t.equal(judged('pg_restore: warning: errors ignored on restore: 1').worst, null)
})

t.test('what an older server does not know of a newer pg_dump', async (t) => {
  const words = (name: string) => `unrecognized configuration parameter "${name}"`
  t.equal(meaningOf(words('transaction_timeout'), '42704'), 'harmless')
  t.equal(meaningOf(words('transaction_timeout'), null), 'harmless')
  t.equal(meaningOf(words('postgis.gdal'), '42704'), 'fault')
})
