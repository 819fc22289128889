import t from 'tap'
import { webhookBody } from '../../src/notify/payload.ts'
import { withoutData } from '../../src/notify/without-data.ts'
import { startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'

t.test('names stay, and what may be of a row goes', async (t) => {
  const told = (message: string) => withoutData(message, true)
  for (const [message, expected] of [
    ['invalid input syntax for type integer: "hunter2"', 'invalid input syntax for type integer: "…"'],
    ['value "123456" is out of range for type integer', 'value "…" is out of range for type integer'],
    ['malformed array literal: "{""hunter2"" error"', 'malformed array literal: "…"'],
    ['date/time field value out of range: "torn', 'date/time field value out of range: "…"'],
    ['relation "public.t" does not exist', 'relation "public.t" does not exist'],
    [
      'new row for relation "t" violates check constraint "c"; DETAIL:  Failing row contains (hunter2).',
      'new row for relation "t" violates check constraint "c"; …',
    ],
  ] as const)
    t.equal(told(message), expected)
  const ours = 'cannot read "spavix/wal/x": no such file'
  t.equal(withoutData(ours, false), ours)
  t.equal(
    withoutData('restoring "app": pg_restore: error: ERROR:  invalid input: "hunter2"', false),
    'restoring "app": pg_restore: error: ERROR:  invalid input: "…"',
  )
})

t.test('a restore that violates a constraint', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster(t)
  // The check holds in this database alone.
  await cluster.createDatabase(
    'app',
    `create function ok(text) returns boolean language sql as 'select current_database() = ''app''';
     create table secrets (s text constraint checked check (ok(s)));
     insert into secrets values (E'error hunter2\\nfatal error hunter3\\npanic "hunter4"')`,
  )
  const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await sidecar.run('dump'), { state: 'succeeded' })
  const run = await sidecar.run('restore', { database: 'app', target: 'copy' })
  t.match(run, { state: 'failed', failure: { message: /violates check constraint "checked"/ } })
  t.notMatch(run.failure?.message, /hunter/, 'nor in the run')
  const body = webhookBody('spavix', 'failure', run)
  t.match(body, /new row for relation \\"secrets\\" violates check constraint \\"checked\\"/)
  t.notMatch(body, /hunter/)
})
