import type { DatabaseSync } from 'node:sqlite'
import type { Run } from './job.ts'

/** What a run tells of its failed attempts. */
export type Retries = Pick<Run, 'retries' | 'attempts'>

/** Sets a column of a run, as JSON, unless it has its verdict. */
export function setWhileRunning(db: DatabaseSync, id: string, column: 'progress' | 'retries', value: object): void {
  db.prepare(`update runs set ${column} = ? where id = ? and state = 'running'`).run(JSON.stringify(value), id)
}
