import { costSettingsOf } from '../config/cost-settings.ts'
import type { RepositoryConfig, ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { estimateCost } from '../domain/cost.ts'
import { oneOffCosts } from '../domain/cost-change.ts'
import { usagesOf } from '../domain/cost-usage.ts'
import { errorCodes, type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Catalog, RepositoryState } from '../observe/catalog.ts'
import { costFacts } from '../observe/cost-facts.ts'
import { readOnlyIndex } from '../observe/recovery-offline.ts'
import { createRepositoryLook } from '../observe/repository.ts'
import { createRetentionView } from '../observe/retention.ts'
import { rememberedDatabases } from '../observe/server-memory.ts'
import { StoredWalIndex } from '../observe/stored-wal.ts'
import type { StoredWalState } from '../observe/wal-state.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { failureIn, thoseThatAnswer } from './answering.ts'
import {
  type CliContext,
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  parse,
} from './command.ts'
import { type CostChange, changed, changeOf, costChangeHelp, costChangeOptions } from './cost-change.ts'
import { type CostReport, costReportJson, describeCosts } from './cost-words.ts'
import { errorText } from './error-text.ts'

export const reportCommand: Command = {
  name: 'report',
  summary: 'tell what each repository costs in a month, and would cost with another retention or storage class',
  usage:
    'report --cost [--repository NAME] [--keep-for DURATION] [--keep-at-least N] [--wal-keep-for DURATION] [--storage-class CLASS] [--wal-storage-class CLASS] [--json]',
  options: [
    ['--cost', 'estimate the cost, by the prices in the configuration (there is no other report)'],
    ['-r, --repository NAME', 'of this repository only'],
    ...costChangeHelp,
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values } = parse('report', argv, {
      ...configOption,
      ...jsonOption,
      ...costChangeOptions,
      cost: { type: 'boolean' },
      repository: { type: 'string', short: 'r' },
    })
    if (values.cost !== true)
      throw new LifeboatError('usage-invalid', 'there is nothing to report', { hint: 'lifeboat report --cost' })
    const change = changeOf(values)
    const config = await configOf(values, context)
    const chosen = chooseRepositories(config.repositories, values.repository ?? null)
    if (chosen.every(({ prices }) => prices === null))
      throw new LifeboatError('config-invalid', 'no prices are configured, and lifeboat knows none by itself', {
        hint: 'write a table of prices into costs.prices, and name it in repositories[].prices: docs/cost.md has an example',
      })
    const { reports, failures } = await estimate(config, chosen, change, context)
    if (values.json)
      context.out.write(`${JSON.stringify(costReportJson(reports, failures, context.clock.now()), null, 2)}\n`)
    else {
      context.out.write(describeCosts(reports, context.clock.now()))
      for (const failure of failures) context.err.write(errorText(failure))
    }
    return failures[0] === undefined ? 0 : errorCodes[failures[0].code].exit
  },
}

/** Looks at the repositories by itself, so that it also works while no sidecar runs; it writes nothing. */
async function estimate(
  config: ValidatedConfig,
  chosen: readonly RepositoryConfig[],
  change: CostChange | null,
  context: CliContext,
): Promise<{ readonly reports: readonly CostReport[]; readonly failures: readonly Failure[] }> {
  const { clock, version, signal, makeLog } = context
  const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  const reports: CostReport[] = []
  const failures: Failure[] = []
  try {
    const remembered = history === null ? [] : rememberedDatabases(history)
    const databases = config.postgres.databases ?? (remembered.length === 0 ? null : remembered)
    const made = makeRepositories(config, { clock, version: version.version, ledger: history })
    const priced = chosen.flatMap(({ name, prices }) => (prices === null ? [] : [name]))
    const asked = made.flatMap(({ repository }) => (priced.includes(repository.name) ? [repository] : []))
    const { silent } = await thoseThatAnswer(asked, config, context)
    for (const { repository } of made) {
      const place = chosen.find(({ name }) => name === repository.name)
      if (place === undefined) continue
      if (place.prices === null) {
        reports.push({ repository: place.name, prices: null, budget: null, estimates: null })
        continue
      }
      const mute = silent.find((one) => one.repository === repository)
      if (mute !== undefined) {
        failures.push(toFailure(mute.error))
        continue
      }
      const log = makeLog('silent', 'err')
      const index = new StoredWalIndex({ repository, records: readOnlyIndex(history?.wal ?? null), clock, log })
      try {
        const stored = await index.lookAtAll(signal)
        const state = await createRepositoryLook({ repository, capacity: null, log })(signal)
        const catalog = seen(state, stored, databases, clock.now())
        reports.push(reportOf(config, place, { catalog, change }))
      } catch (error) {
        signal.throwIfAborted()
        failures.push(failureIn(place.name, error))
      } finally {
        await index.close()
      }
    }
    return { reports, failures }
  } finally {
    history?.close()
  }
}

/** One repository as a catalog, without a server. */
function seen(state: RepositoryState, stored: StoredWalState, databases: readonly string[] | null, at: Date): Catalog {
  const server: Catalog['server'] =
    databases === null
      ? null
      : {
          ...{ source: 'memory', systemIdentifier: null, serverVersion: null },
          ...{ databases, missingDatabases: [], appearedAt: new Map() },
        }
  return {
    ...{ at, server, archiver: null, repositories: [state], watches: [], collectors: [], jobs: [] },
    ...{ backupFailures: [], postures: [], complete: true },
    wal: { archive: null, stored: [stored], clock: null, repositories: [], slots: null },
  }
}

function reportOf(
  config: ValidatedConfig,
  place: RepositoryConfig,
  { catalog, change }: { readonly catalog: Catalog; readonly change: CostChange | null },
): CostReport {
  const { name: repository, prices, monthlyBudget: budget } = place
  const facts = costFacts(catalog, repository, { hasWal: config.wal.archive !== null })
  if (prices === null || facts === null) return { repository, prices, budget, estimates: null }
  const settings = costSettingsOf(config, place)
  const usages = usagesOf(facts, settings, prices)
  const next = change === null ? null : changed(settings, change, place)
  const goes = next === null ? new Set<string>() : goingAtOnce(catalog, repository, settings.retention, next.retention)
  return {
    ...{ repository, prices, budget },
    estimates: {
      today: estimateCost(usages.today, prices),
      steady: estimateCost(usages.steady, prices),
      whatIf:
        next === null
          ? null
          : {
              settings: next,
              steady: estimateCost(usagesOf(facts, next, prices).steady, prices),
              once: oneOffCosts(facts, { from: settings.classes, to: next.classes, goes }, prices),
            },
    },
  }
}

/** Backups that stay by one policy, and go by the other. */
function goingAtOnce(
  catalog: Catalog,
  repository: string,
  ...[now, next]: readonly [RepositoryConfig['retention'], RepositoryConfig['retention']]
): ReadonlySet<string> {
  const removals = (policy: RepositoryConfig['retention']) => {
    const view = createRetentionView({ policies: new Map([[repository, policy]]), clockDoubt: () => null })
    return (view(catalog).get(repository)?.removals ?? []).map(({ id }) => id)
  }
  const present = new Set(removals(now))
  return new Set(removals(next).filter((id) => !present.has(id)))
}
