import { type ConnectionSource, connect, type Session } from '../../src/postgres/connection.ts'
import { Random } from '../chaos/random.ts'

/** A commit, and its moment as the server has it: Unix time, microseconds. */
export interface CommittedAt {
  readonly id: number
  readonly at: bigint
}

/**
 * Transactions of three sessions that overlap, one step after the other; some are rolled back. Gives those that were committed,
 * in their order. Needs `track_commit_timestamp`.
 *
 * @param table is made, with a column `id`
 */
export async function interleave(
  source: ConnectionSource,
  { database, table, seed, steps }: { database: string; table: string; seed: number; steps: number },
): Promise<readonly CommittedAt[]> {
  const random = new Random(seed)
  const sessions: { readonly session: Session; isOpen: boolean }[] = []
  try {
    for (let count = 0; count < 3; count += 1)
      sessions.push({ session: await connect(source, { database }), isOpen: false })
    const [first] = sessions as [(typeof sessions)[number]]
    await first.session.query(`create table ${table} (id int)`)
    const step = async (one: (typeof sessions)[number], id: number) => {
      if (one.isOpen) await one.session.query(random.next() < 0.8 ? 'commit' : 'rollback')
      else {
        await one.session.query('begin')
        await one.session.query(`insert into ${table} values (${id})`)
      }
      one.isOpen = !one.isOpen
    }
    for (let id = 1; id <= steps; id += 1) await step(random.pick(sessions), id)
    for (const one of sessions) if (one.isOpen) await one.session.query('commit')
    const rows = await first.session.query<{ id: number; at: string }>(
      `select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::int8::text as at from ${table}`,
    )
    return rows.map(({ id, at }) => ({ id, at: BigInt(at) })).toSorted((a, b) => (a.at < b.at ? -1 : 1))
  } finally {
    for (const { session } of sessions) await session.close()
  }
}
