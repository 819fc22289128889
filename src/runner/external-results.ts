import type { DatabaseSync } from 'node:sqlite'
import { text } from './history-rows.ts'
import type { Access } from './wal-records.ts'

/** Proofs kept of one file, and files of one watch of which anything is kept. */
const mostProofs = 20
const mostFiles = 100_000

interface KeptInspection {
  readonly identity: string
  readonly found: string
}

/** What was found in files of other tools (by reading them) and about them (by restoring them), and which must stay. */
export class ExternalResults {
  readonly #db: DatabaseSync
  readonly #access: Access

  constructor(db: DatabaseSync, access: Access) {
    this.#db = db
    this.#access = access
  }

  /** What was found in the files of a watched directory, by name. */
  inspections(watch: string): ReadonlyMap<string, Pick<KeptInspection, 'identity' | 'found'>> {
    return this.#access.read(() => {
      const rows = this.#db.prepare('select name, identity, found from inspections where watch = ?').all(watch)
      return new Map(rows.map((row) => [text(row.name), { identity: text(row.identity), found: text(row.found) }]))
    })
  }

  /** Keeps the newest finding. Where there are too many, all go: what is still there is read once more. */
  keepInspection(watch: string, name: string, identity: string, found: string): void {
    this.#access.write(() => {
      const count = Number(this.#db.prepare('select count(*) as n from inspections where watch = ?').get(watch)?.n)
      if (count >= mostFiles) this.#db.prepare('delete from inspections where watch = ?').run(watch)
      this.#db.prepare('insert or replace into inspections values (?, ?, ?, ?)').run(watch, name, identity, found)
    })
  }

  /** Proofs as text, newest first for each id. */
  externalProofs(): ReadonlyMap<string, readonly string[]> {
    return this.#access.read(() => {
      const found = new Map<string, string[]>()
      for (const row of this.#db.prepare('select id, proof from external_proofs order by id, finished_at desc').all()) {
        const proofs = found.get(text(row.id))
        if (proofs === undefined) found.set(text(row.id), [text(row.proof)])
        else proofs.push(text(row.proof))
      }
      return found
    })
  }

  keepExternalProof(id: string, finishedAt: string, proof: string): void {
    this.#access.write(() => {
      this.#db.prepare('insert or replace into external_proofs values (?, ?, ?)').run(id, finishedAt, proof)
      this.#db
        .prepare(
          `delete from external_proofs where id = ? and finished_at not in
             (select finished_at from external_proofs where id = ? order by finished_at desc limit ?)`,
        )
        .run(id, id, mostProofs)
    })
  }

  /** Holds as text, by the id of the file. */
  externalHolds(): ReadonlyMap<string, string> {
    return this.#access.read(() => {
      const rows = this.#db.prepare('select id, hold from external_holds').all()
      return new Map(rows.map((row) => [text(row.id), text(row.hold)]))
    })
  }

  /** In the place of the hold that is there. */
  keepExternalHold(id: string, hold: string): void {
    this.#access.write(() => this.#db.prepare('insert or replace into external_holds values (?, ?)').run(id, hold))
  }

  /** True if there was one. */
  releaseExternalHold(id: string): boolean {
    return this.#access.write(() => this.#db.prepare('delete from external_holds where id = ?').run(id).changes > 0)
  }
}
