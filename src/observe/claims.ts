import type { LifeboatError } from '../domain/errors.ts'
import type { InProgress } from '../repository/repository.ts'
import type { ObjectInfo } from '../storage/storage.ts'
import type { HoldSummary, RepositoryState } from './catalog.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

interface Entry {
  readonly key: string
  readonly backupId: string
  readonly info: ObjectInfo
}

type ReadHold =
  | { readonly hold: { readonly reason: string; readonly until: string | null } }
  | { readonly problem: LifeboatError }

/** What is asked of a repository about who wants its backups kept; `Repository` has it. */
export interface ObservableClaims {
  listHolds(options?: Stoppable): AsyncIterable<Entry>
  readHold(id: string, options?: Stoppable): Promise<ReadHold | null>
  listUses(options?: Stoppable): AsyncIterable<Entry>
  readUse(key: string, options?: Stoppable): Promise<Pick<InProgress, 'runId' | 'heartbeatAt'> | null>
}

/** Makes the look at the holds and the marks of use of one repository: there are few, and a hold is read once. */
export function createClaimsLook(
  repository: ObservableClaims,
): (signal: AbortSignal) => Promise<Pick<RepositoryState, 'holds' | 'uses'>> {
  let known: ReadonlyMap<string, { readonly version: string; readonly hold: HoldSummary }> = new Map()
  let holds: RepositoryState['holds'] = new Map()
  return async (signal) => {
    const next = new Map<string, { readonly version: string; readonly hold: HoldSummary }>()
    for await (const { backupId, info } of repository.listHolds({ signal })) {
      const former = known.get(backupId)
      if (former?.version === info.version) next.set(backupId, former)
      else {
        const read = await repository.readHold(backupId, { signal })
        // What could not be read is read again the next time.
        const version = read !== null && 'hold' in read ? info.version : ''
        if (read !== null) next.set(backupId, { version, hold: summarize(backupId, read) })
      }
    }
    const isSame = next.size === known.size && [...next].every(([id, one]) => one === known.get(id))
    known = next
    if (!isSame) holds = new Map([...next].map(([id, { hold }]) => [id, hold]))
    const uses: RepositoryState['uses'][number][] = []
    for await (const { key, backupId, info } of repository.listUses({ signal })) {
      const mark = await repository.readUse(key, { signal })
      const heartbeatAt = mark === null ? info.modified : new Date(mark.heartbeatAt)
      uses.push(Object.freeze({ backupId, key, version: info.version, runId: mark?.runId ?? null, heartbeatAt }))
    }
    return { holds, uses: Object.freeze(uses) }
  }
}

function summarize(backupId: string, read: ReadHold): HoldSummary {
  if ('problem' in read) return Object.freeze({ backupId, reason: read.problem.message, until: null })
  const { reason, until } = read.hold
  return Object.freeze({ backupId, reason, until: until === null ? null : new Date(until) })
}
