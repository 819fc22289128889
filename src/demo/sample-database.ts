import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { sampleData, sampleRoles, sampleSchema } from './sample-sql.ts'

export interface SampleOptions {
  /** Name of the database to make. */
  readonly name: string
  /** 1 is about 10 MB on disk; linear above. A positive number. */
  readonly scale: number
  readonly signal?: AbortSignal
}

/**
 * Makes a database like that of a small company: users, their projects, and what was generated in these, with one of
 * nearly everything that a backup can lose. The same scale gives the same rows each time. The roles `studio_app` and
 * `studio_readers` are made for the whole cluster unless they are there.
 *
 * @throws LifeboatError as `connect` does; `server-error` when the database exists or citext is not installed
 */
export async function createSampleDatabase(
  source: ConnectionSource,
  { name, scale, signal }: SampleOptions,
): Promise<void> {
  const aborts = signal ? { signal } : {}
  await withSession(source, { database: 'postgres', ...aborts }, async (session) => {
    await session.query(sampleRoles)
    await session.query(`create database ${quoteIdentifier(name)} template template0 encoding 'UTF8'`)
    await session.query(`alter database ${quoteIdentifier(name)} set timezone = 'UTC'`)
  })
  await withSession(source, { database: name, ...aborts, settings: { synchronous_commit: 'off' } }, async (session) => {
    await session.query(sampleSchema)
    for (const statement of sampleData(scale)) await session.query(statement)
  })
}
