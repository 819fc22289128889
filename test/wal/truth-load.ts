import { setTimeout as delay } from 'node:timers/promises'
import { type ConnectionSource, connect, type Session, withSession } from '../../src/postgres/connection.ts'

/** One commit that the server has confirmed, and when: Unix time, ms. */
export interface Confirmed {
  readonly id: number
  readonly at: number
}

export interface LoadOptions {
  /** How long whoever fills segments waits between two transactions of about 130 kB, ms. */
  readonly fillEveryMs: number
}

/** The table of what was committed. */
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
  /** Confirmed, and lost with the server: as asynchronous ones may be. */
  readonly lost = new Set<number>()
  readonly #source: ConnectionSource
  readonly #options: LoadOptions
  readonly #stopping = new AbortController()
  #next = 0
  #running: Promise<unknown> = Promise.resolve()

  constructor(source: ConnectionSource, options: LoadOptions) {
    this.#source = source
    this.#options = options
  }

  start(): void {
    const note = async (session: Session) => {
      const id = ++this.#next
      await session.query('insert into noted (id) values ($1)', [id])
      this.confirmed.push({ id, at: Date.now() })
    }
    const fill = async (session: Session) => {
      await session.query(`insert into filler select repeat(md5(i::text), 20) from generate_series(1, 200) i`)
      await delay(this.#options.fillEveryMs, undefined, { signal: this.#stopping.signal })
    }
    const all = [this.#repeat('on', note), this.#repeat('off', note), this.#repeat('on', fill)]
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

  /** What the server does not have any more after a crash nobody can bring back. */
  async noteLost(): Promise<void> {
    const confirmed = [...this.confirmed]
    const there = await notedIn(this.#source)
    for (const { id } of confirmed) if (!there.has(id)) this.lost.add(id)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }
}
