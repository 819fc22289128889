import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { withSession } from '../postgres/connection.ts'
import { type Account, megabytes, seconds } from './account.ts'
import type { Client, ListedCopy } from './client.ts'
import { changes, type Series, valueIn } from './series.ts'
import { database, repositoryNames, type Stage } from './stage.ts'

/** What every act works with. */
export interface Scene {
  readonly stage: Stage
  readonly client: Client
  readonly account: Account
  readonly clock: Clock
  readonly signal: AbortSignal
}

const [main, second] = repositoryNames

/** Tells what the database holds. */
export async function describeDatabase({ stage, account, signal }: Scene): Promise<void> {
  const [found] = await withSession(stage.server.source, { database, signal }, (session) =>
    session.query<{ users: string; projects: string; generations: string; bytes: string }>(
      `select (select count(*) from users) as users, (select count(*) from projects) as projects,
         (select count(*) from generations) as generations, pg_database_size(current_database()) as bytes`,
    ),
  )
  if (found === undefined) throw new LifeboatError('unexpected', 'the sample database did not answer')
  const { users, projects, generations, bytes } = found
  account.tell(
    `${database}: ${users} users, ${projects} projects, ${generations} generations, ${megabytes(Number(bytes))}; ` +
      'with large objects, partitions, an extension, roles and grants',
  )
}

/** A backup through the HTTP endpoint. Gives its id. */
export async function takeBackup({ client, account, clock }: Scene): Promise<string> {
  account.act('Take a backup')
  account.tell('POST /api/admin/backup {}')
  const before = await client.metrics()
  const start = clock.monotonic()
  const run = await client.run('backup', {})
  account.check(
    run.state === 'succeeded',
    `the run ${run.state} after ${seconds(clock.monotonic() - start)}${because(run.failure)}`,
  )
  const ids = new Set(run.items.flatMap((item) => item.backupId ?? []))
  const [id] = ids
  if (id === undefined || ids.size > 1)
    throw new LifeboatError('unexpected', `one backup was expected, not ${ids.size}`)
  const held = (series: Series) =>
    repositoryNames.every((repository) => valueIn(series, 'lifeboat_backups', { repository }) === 1)
  const after = await client.metricsWhen(held)
  account.check(held(after), `${id} is in both repositories`)
  account.changes(
    changes(before, after, [
      'lifeboat_backups',
      'lifeboat_backup_last_size_bytes',
      'lifeboat_recovery_point_timestamp_seconds',
    ]),
  )
  return id
}

/** A restore into a scratch server, and every row compared with what was dumped. */
export async function proveBackup({ client, account, clock }: Scene, backup: string): Promise<void> {
  account.act('Prove it by restoring it')
  account.tell(`POST /api/admin/verify { "level": "data", "repository": "${main}" }`)
  const before = await client.metrics()
  const start = clock.monotonic()
  const run = await client.run('verify', { level: 'data', repository: main, backup })
  account.check(
    run.state === 'succeeded',
    `the run ${run.state} after ${seconds(clock.monotonic() - start)}${because(run.failure)}`,
  )
  const proof = 'lifeboat_backup_proven_timestamp_seconds'
  const after = await client.metricsWhen((series) => valueIn(series, proof, { repository: main }) !== null)
  const copies = await client.backups()
  account.check(copyIn(copies, main, backup).proven, 'restored into a new server; every table is equal to its source')
  account.check(
    !copyIn(copies, second, backup).proven,
    `nothing is claimed of the copy in ${second}, which nobody restored`,
  )
  account.changes(changes(before, after, [proof, 'lifeboat_verification_last_result']).filter(isNotZero))
}

/** One bit of a copy changes, as a disk might do it; the next verification must say so. */
export async function damageCopy({ stage, client, account }: Scene, backup: string): Promise<void> {
  account.act('Flip one bit in the other copy')
  const at = await flipBit(join(stage.backupsDirectory(second), backup, 'dump.tar'))
  account.tell(`byte ${at} of ${second}'s dump.tar`)
  account.tell(`POST /api/admin/verify { "level": "data", "repository": "${second}" }`)
  const before = await client.metrics()
  const run = await client.run('verify', { level: 'data', repository: second, backup })
  account.check(run.state === 'failed', `the run ${run.state}: ${run.failure?.code ?? 'no failure'}`)
  const labels = { repository: second, level: 'artifact', result: 'fail' }
  const seen = (series: Series) => valueIn(series, 'lifeboat_verification_last_result', labels) === 1
  const after = await client.metricsWhen(seen)
  account.check(seen(after), 'the metrics say so')
  const copies = await client.backups()
  const found = copyIn(copies, second, backup).verification.artifact
  account.check(
    found?.verdict === 'fail' && found.cause === 'checksum-mismatch',
    `the verdict on ${second} is ${found?.verdict ?? 'none'}, its cause ${found?.cause ?? 'none'}`,
  )
  account.check(copyIn(copies, main, backup).proven, `the copy in ${main} is as good as before`)
  const names = ['lifeboat_verification_last_result', 'lifeboat_job_failures_total']
  account.changes(changes(before, after, names).filter(isNotZero))
}

/** One of three results is 1 and two are 0: the one tells all. */
function isNotZero({ after }: { after: number | null }): boolean {
  return after !== 0
}

export function because(failure: { message: string } | null): string {
  return failure === null ? '' : `: ${failure.message}`
}

function copyIn(copies: readonly ListedCopy[], repository: string, id: string): ListedCopy {
  const found = copies.find((copy) => copy.repository === repository && copy.id === id)
  if (found !== undefined) return found
  throw new LifeboatError('unexpected', `the backup ${id} is not listed in ${repository}`)
}

/** Flips the lowest bit of the byte in the middle. Gives its offset. */
async function flipBit(path: string): Promise<number> {
  const file = await open(path, 'r+')
  try {
    const at = Math.floor((await file.stat()).size / 2)
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    byte.writeUInt8(byte.readUInt8(0) ^ 1)
    await file.write(byte, 0, 1, at)
    return at
  } finally {
    await file.close()
  }
}
