import { readdir, readFile } from 'node:fs/promises'
import { connect } from '../../src/postgres/connection.ts'
import type { Run } from '../../src/runner/job.ts'
import type { Cluster } from './postgres.ts'

export interface Stall {
  /**
   * Resolves when a program or session of Lifeboat waits for the table; rejects when the run ends before. `query` (SQL
   * like) says in which statement.
   */
  waiting(run: Promise<Run>, query: string): Promise<void>
  release(): Promise<void>
}

/** Locks a table against every reader: who wants it stands still, at a known place, until the release. */
export async function stall(cluster: Cluster, database: string, table: string): Promise<Stall> {
  const session = await connect(cluster.source, { database })
  await session.query('begin')
  await session.query(`lock table ${table} in access exclusive mode`)
  return {
    waiting: async (run, query) => {
      let ended: unknown
      run.then(
        (one) => {
          ended = one
        },
        (error: unknown) => {
          ended = error
        },
      )
      const waits = `select from pg_locks l join pg_stat_activity a using (pid)
        where not l.granted and a.application_name = 'lifeboat' and a.query ilike '${query}' limit 1`
      while ((await cluster.sql(waits)).length === 0) {
        if (ended !== undefined) throw new Error(`the run ended before it waited: ${JSON.stringify(ended)}`)
        await cluster.sql('select pg_sleep(0.02)')
      }
    },
    release: () => session.close(),
  }
}

/** Resolves when a query gives a row. */
export async function until(cluster: Cluster, query: string): Promise<void> {
  while ((await cluster.sql(`${query} limit 1`)).length === 0) await cluster.sql('select pg_sleep(0.02)')
}

/** Resolves when the server has no session of Lifeboat any more. */
export function noSessions(cluster: Cluster): Promise<void> {
  return until(
    cluster,
    `select 1 where not exists (select from pg_stat_activity where application_name = 'lifeboat' and pid <> pg_backend_pid())`,
  )
}

/** Sends SIGKILL to every process of a program whose arguments hold a text. Fails if there is none. */
export async function killPrograms(program: string, text: string): Promise<void> {
  let killed = 0
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const [path = '', ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    if (!path.endsWith(`/${program}`) || !args.some((arg) => arg.includes(text))) continue
    process.kill(Number(pid), 'SIGKILL')
    killed += 1
  }
  if (killed === 0) throw new Error(`no process ${program} with ${text}`)
}
