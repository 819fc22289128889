import type { Logger } from 'pino'
import { checkPrefix } from './check/bucket.ts'
import { checkConditions } from './check/bucket-uploads.ts'
import type { ValidatedConfig } from './config/validated.ts'
import { toFailure } from './domain/errors.ts'
import type { CoreRepository } from './repositories.ts'

/**
 * Warns, once for each bucket that this process writes to, where the server replaces what it must not: `lifeboat check` says so, too,
 * and who has never run it is to know as well. Amazon's own is not tried.
 */
export function createConditionsReport({
  config,
  repositories,
  log,
}: {
  readonly config: Pick<ValidatedConfig, 'repositories'>
  readonly repositories: readonly CoreRepository[]
  readonly log: Logger
}): (name: string) => Promise<void> {
  const tried = new Set<string>()
  return async (name) => {
    const trials = repositories.find(({ repository }) => repository.name === name)?.storage.trials
    const isAmazon = config.repositories.every((one) => one.name !== name || (one.bucket?.endpoint ?? null) === null)
    if (trials === undefined || isAmazon || tried.has(name)) return
    tried.add(name)
    try {
      const found = await checkConditions(name, trials, checkPrefix())
      if (found !== null) log.warn({ repository: name, hint: found.hint }, found.what)
    } catch (error) {
      tried.delete(name)
      log.debug(
        { repository: name, ...toFailure(error) },
        'it cannot be tried whether the server honours If-None-Match',
      )
    }
  }
}
