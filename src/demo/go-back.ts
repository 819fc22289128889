import { LifeboatError } from '../domain/errors.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import type { Run } from '../runner/job.ts'
import { seconds } from './account.ts'
import { because, type Scene } from './acts.ts'
import { sourceOf } from './restored.ts'
import { changes, type Series, valueIn } from './series.ts'
import { database, repositoryNames } from './stage.ts'

interface Invoices {
  readonly rows: number
  /** Of all that is in them. */
  readonly hash: string
  /** When the server was asked, to the microsecond. */
  readonly at: string
}

const invoicesNow = `select count(*)::int as rows, md5(string_agg(i::text, ',' order by number)) as hash,
  to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"Z"') as at from invoices i`

/** A table is dropped, and the cluster restored beside the server to the moment before: from a physical backup and the WAL. */
export async function goBack(scene: Scene): Promise<void> {
  const { stage, account, signal } = scene
  const { source } = stage.server
  account.act('Go back to the moment before a mistake')
  await takePhysicalBackup(scene)
  await ask(source, 'insert into invoices (owner_id, amount) select 1, 100 from generate_series(1, 3)', signal)
  const [before] = await ask<Invoices>(source, invoicesNow, signal)
  if (before === undefined) throw new LifeboatError('unexpected', 'the sample database did not answer')
  account.tell(`three invoices more, which no backup holds: ${before.rows}; it is ${before.at}`)
  account.type(`psql ${database} -c 'drop table invoices'`)
  await ask(source, 'drop table invoices', signal)
  const lost = await answers(source, signal)
  account.check(lost.startsWith('relation "invoices" does not exist'), `gone: ${lost}`)
  // A server with little to do finishes its segment when archive_timeout is over.
  await ask(source, 'select pg_switch_wal()', signal)
  account.check(
    await scene.client.recoverable(before.at),
    'the WAL up to it is in both repositories: that moment can be restored',
  )
  const restored = await restoreTo(scene, before.at)
  const copy = await sourceOf(stage.restoredDirectory)
  if (restored === null || copy === null) return
  const [after] = await ask<Invoices>(copy, invoicesNow, signal)
  account.check(
    after?.rows === before.rows && after.hash === before.hash,
    `in the restored cluster there are ${after?.rows} invoices, the same to the letter`,
  )
  account.check((await answers(source, signal)) === lost, 'the server itself was left alone')
}

async function takePhysicalBackup({ client, account, clock }: Scene): Promise<void> {
  account.tell(
    'The server hands over its WAL as it goes (archive_command), and Lifeboat stores it. ' +
      'By the API, too; what you would type is:',
  )
  account.type('lifeboat backup --type full')
  const before = await client.metrics()
  const start = clock.monotonic()
  const run = await client.run('backup', { type: 'full' })
  account.check(
    run.state === 'succeeded',
    `the run ${run.state} after ${seconds(clock.monotonic() - start)}${because(run.failure)}`,
  )
  const held = (series: Series) =>
    repositoryNames.every(
      (repository) => valueIn(series, 'lifeboat_backups', { repository, backup_type: 'full' }) === 1,
    )
  const after = await client.metricsWhen(held)
  account.check(held(after), 'the backup is in both repositories, with the WAL that it needs')
  account.changes(changes(before, after, ['lifeboat_recovery_window_start_timestamp_seconds']))
}

async function restoreTo({ stage, client, account, clock }: Scene, at: string): Promise<Run | null> {
  const to = stage.restoredDirectory
  account.type('lifeboat restore', `--to ${to}`, `--at '${at}'`)
  const start = clock.monotonic()
  const run = await client.run('restore', { to, at })
  account.check(
    run.state === 'succeeded',
    `the run ${run.state} after ${seconds(clock.monotonic() - start)}${because(run.failure)}`,
  )
  const restored = run.items[0]?.restored
  if (run.state !== 'succeeded' || restored === undefined) return null
  const { asked, lsn, timeline, lastCommitAt, stoppedAt, newTimeline } = restored
  account.tell(`asked:   ${asked}`)
  account.tell(`reached: ${lsn} on timeline ${timeline}, last commit ${lastCommitAt ?? 'none'}`)
  account.tell(`stopped: ${stoppedAt?.replace(/^recovery stopping /, '') ?? 'at the end of the WAL'}`)
  account.tell(`a server of its own, on timeline ${newTimeline}, which archives nothing`)
  return run
}

/** What reading the table says: the error, or how many rows there are. */
async function answers(source: ConnectionSource, signal: AbortSignal): Promise<string> {
  const asked = ask<{ rows: string }>(source, 'select count(*) as rows from invoices', signal)
  return asked.then(
    ([row]) => `${row?.rows} invoices`,
    (error: unknown) => {
      if (error instanceof LifeboatError) return error.message
      throw error
    },
  )
}

function ask<Row extends object>(source: ConnectionSource, text: string, signal: AbortSignal): Promise<Row[]> {
  return withSession(source, { database, signal }, (session) => session.query<Row>(text))
}
