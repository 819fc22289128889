import { randomInt } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { parseLsn } from '../../src/domain/lsn.ts'
import { type RestoreWish, restoreParams } from '../../src/domain/restore-wish.ts'
import { type ConnectionSource, socketSource, withSession } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Run } from '../../src/runner/job.ts'
import { type PhysicalCluster, physicalCluster } from './archiving-cluster.ts'
import { interleave } from './interleaved.ts'
import type { Cluster, Major } from './postgres.ts'
import { openDirectory } from './scratch.ts'
import type { Sidecar } from './sidecar.ts'
import { untilAnswer } from './until.ts'

/* Restores of a whole cluster. */

export interface Ground extends Pick<PhysicalCluster, 'cluster' | 'archive'> {
  readonly sidecar: Sidecar
}

/** Segments of 1 MiB: quick to switch. */
export const restoringInitdb = ['-E', 'UTF8', '--locale=C', '--wal-segsize=1']

/** A cluster with a backup, and after it an insert, a table that is dropped, one that is made, and transactions that overlap. */
export async function prepareRestores(t: Test, major: Major) {
  const settings = { track_commit_timestamp: 'on' }
  const physical = await physicalCluster(t, { major, initdbArgs: restoringInitdb, settings })
  const { cluster } = physical
  const first = await clockOf(cluster)
  await cluster.createDatabase('app', "create table t as select 'one' as word")
  const { sidecar } = await physical.sidecar(t)
  t.match(await sidecar.run('full'), { state: 'succeeded' })
  await cluster.sql("insert into t values ('two')", 'app')
  await cluster.sql("select pg_create_restore_point('point')")
  const place = await insertLsn(cluster)
  const before = await clockOf(cluster)
  await cluster.sql('drop table t', 'app')
  await cluster.sql('create table later as select 1 as i', 'app')
  const seed = randomInt(2 ** 31)
  t.comment(`seed ${seed}`)
  const commits = await interleave(cluster.source, { database: 'app', table: 'noted', seed, steps: 100 })
  await shipped(cluster, sidecar)
  return groundOf({ ...physical, sidecar }, { first, place, commits, before: new Date(before.getTime() + 1) })
}

export function groundOf<Moments>(ground: Ground, moments: Moments) {
  return {
    ...ground,
    moments,
    restore: async (t: Test, wish: Partial<RestoreWish>) => {
      const folder = await openDirectory(t)
      const to = wish.to ?? join(folder, 'restored')
      const run = await ground.sidecar.run('restore', wishParams({ ...wish, to }))
      t.teardown(() => stopRestored(ground.cluster, to))
      return { run, to, folder }
    },
  }
}

export function wishParams(wish: Partial<RestoreWish> & Pick<RestoreWish, 'to'>) {
  return restoreParams({
    ...{ target: { kind: 'latest' }, timeline: null, backup: null, repository: null, systemIdentifier: null },
    ...{ tablespaces: [], start: true, action: 'promote', missingIsEnd: false, osUser: null },
    ...wish,
  })
}

export async function stopRestored(cluster: Cluster, to: string): Promise<void> {
  const args = [`--pgdata=${to}`, '--mode=immediate', 'stop']
  const user = await serverOsUser('postgres')
  await runProgram({ program: join(cluster.installation.directory, 'pg_ctl'), args, user }).catch(() => {})
}

export function sourceOf({ items }: Run): ConnectionSource {
  const [, host = ''] = /--host=(\S+)/.exec(items[0]?.restored?.connect ?? '') ?? []
  return socketSource({ host, port: 5432, user: 'postgres' })
}

export function askServer<Row extends object>(
  source: ConnectionSource,
  text: string,
  database = 'postgres',
): Promise<Row[]> {
  return withSession(source, { database }, (session) => session.query<Row>(text))
}

export async function rowsOf(
  source: ConnectionSource,
  text = 'select word from t order by word',
): Promise<readonly string[]> {
  return (await askServer<{ word: string }>(source, text, 'app')).map(({ word }) => word)
}

export async function clockOf(cluster: Cluster): Promise<Date> {
  const [row] = await cluster.sql<{ at: Date }>('select clock_timestamp() as at')
  return row?.at ?? new Date(0)
}

export async function insertLsn(cluster: Cluster): Promise<bigint> {
  const [row] = await cluster.sql<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn')
  return parseLsn(row?.lsn ?? '') ?? 0n
}

/** Resolves when all that the server has written is stored; gives the last segment. */
export async function shipped(cluster: Cluster, sidecar: Sidecar): Promise<string> {
  const [row] = await cluster.sql<{ name: string; id: string }>(
    `select pg_walfile_name(pg_switch_wal()) as name, (select system_identifier::text from pg_control_system()) as id`,
  )
  await untilAnswer('the segment is stored', async () => {
    const found = await sidecar.repository.wal.ofSegment(row?.id ?? '', row?.name ?? '')
    return found.length > 0
  })
  return row?.name ?? ''
}

export async function beside(to: string): Promise<readonly string[]> {
  return (await readdir(join(to, '..'))).filter((name) => name.startsWith('.lifeboat'))
}
