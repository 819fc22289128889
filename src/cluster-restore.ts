import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { ClusterRestoreOptions } from './jobs/restore-cluster-plan.ts'
import { planFromRepositories } from './observe/recovery-offline.ts'
import { measuredRestores } from './observe/recovery-view.ts'
import type { Repository } from './repository/repository.ts'
import type { History } from './runner/history.ts'
import { scriptUrl } from './scripts.ts'

export { prepareClusterRestore } from './jobs/restore-cluster-plan.ts'

const mainFile = fileURLToPath(scriptUrl('main'))

/** What a restore of the whole cluster asks others: the repositories themselves, and what this host remembers. */
export function clusterRestore({
  repositories,
  history,
  clock,
  log,
}: {
  readonly repositories: readonly Repository[]
  /** Null: there is none yet. */
  readonly history: History | null
  readonly clock: Clock
  readonly log: Logger
}): Pick<ClusterRestoreOptions, 'plan' | 'run' | 'program'> {
  return {
    plan: (question, signal) => {
      const restores = history === null ? [] : measuredRestores(history)
      return planFromRepositories(
        { repositories, records: history?.wal ?? null, restores, clock, log, signal },
        question,
      )
    },
    run: (runId) => history?.get(runId) ?? null,
    program: [process.execPath, mainFile],
  }
}
