import { setTimeout as delay } from 'node:timers/promises'
import { type ConnectionSource, connect, type Session, withSession } from '../../src/postgres/connection.ts'

/** One commit that the server has confirmed: Unix time, ms. */
export interface Confirmed {
  readonly id: number
  /** It was asked for. */
  readonly begun: number
  /** It was confirmed. */
  readonly at: number
}

/** A point that was made while others went on committing. */
export interface RestorePoint {
  readonly name: string
  readonly begun: number
  readonly made: number
}

export interface LoadOptions {
  /** How long whoever fills segments waits between two transactions of about 130 kB, ms. */
  readonly fillEveryMs: number
}

/** The table of what was committed. Who asks when needs `track_commit_timestamp`. */
export const loadTables =
  'create table noted (id int, at timestamptz default clock_timestamp()); create table filler (x text)'

export async function notedIn(source: ConnectionSource): Promise<ReadonlySet<number>> {
  const rows = await withSession(source, { database: 'postgres' }, (session) =>
    session.query<{ id: number }>('select id from noted'),
  )
  return new Set(rows.map(({ id }) => id))
}

/** Several who commit one after the other: some wait for the disk, some do not. */
export class Load {
  readonly confirmed: Confirmed[] = []
  readonly points: RestorePoint[] = []
  /** Confirmed, and lost with the server: as asynchronous ones may be. */
  readonly lost = new Set<number>()
  readonly #source: ConnectionSource
  readonly #options: LoadOptions
  readonly #stopping = new AbortController()
  #next = 0
  #nextPoint = 0
  #running: Promise<unknown> = Promise.resolve()

  constructor(source: ConnectionSource, options: LoadOptions) {
    this.#source = source
    this.#options = options
  }

  start(): void {
    const note = async (session: Session) => {
      const [id, begun] = [++this.#next, Date.now()]
      await session.query('insert into noted (id) values ($1)', [id])
      this.confirmed.push({ id, begun, at: Date.now() })
    }
    const mark = async (session: Session) => {
      const [name, begun] = [`point ${++this.#nextPoint}`, Date.now()]
      await session.query('select pg_create_restore_point($1)', [name])
      this.points.push({ name, begun, made: Date.now() })
      await delay(100)
    }
    const fill = async (session: Session) => {
      await session.query(`insert into filler select repeat(md5(i::text), 20) from generate_series(1, 200) i`)
      await delay(this.#options.fillEveryMs, undefined, { signal: this.#stopping.signal })
    }
    const all = [
      this.#repeat('on', note),
      this.#repeat('off', note),
      this.#repeat('on', fill),
      this.#repeat('on', mark),
    ]
    this.#running = Promise.all(all)
  }

  async #repeat(synchronous: 'on' | 'off', work: (session: Session) => Promise<void>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        const settings = { synchronous_commit: synchronous }
        const session = await connect(this.#source, { database: 'postgres', settings })
        try {
          while (!this.#stopping.signal.aborted) {
            await work(session)
            await delay(5)
          }
        } finally {
          await session.close()
        }
      } catch {
        await delay(50)
      }
    }
  }

  /**
   * Asks the server, which has come back if it was killed, when what it has was committed: Unix time, microseconds, by id. What it
   * does not have any more after a crash nobody can bring back.
   */
  async commitTimes(): Promise<ReadonlyMap<number, bigint>> {
    const confirmed = [...this.confirmed]
    const rows = await withSession(this.#source, { database: 'postgres' }, (session) =>
      session.query<{ id: number; at: string }>(
        'select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::int8::text as at from noted',
      ),
    )
    const times = new Map(rows.map(({ id, at }) => [id, BigInt(at)]))
    for (const { id } of confirmed) if (!times.has(id)) this.lost.add(id)
    return times
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }
}
