import { isWatchOnly, type ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { isDatedAhead } from '../domain/backup.ts'
import { errorCodes, type Failure, toFailure } from '../domain/errors.ts'
import type { RetentionDecision } from '../domain/retention.ts'
import type { BackupSummary, ProofSummary, RepositoryState } from '../observe/catalog.ts'
import { detailsOf, newestOf, restoresNothing, summaryOf } from '../observe/external-catalog.ts'
import { createExternalProofs } from '../observe/external-proofs.ts'
import { surveyFiles } from '../observe/external-targets.ts'
import { createRepositoryLook } from '../observe/repository.ts'
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
import { errorText } from './error-text.ts'
import { plansOf } from './expire.ts'
import { formatBytes, formatTime, oneLine, printable, table } from './format.ts'

export const listCommand: Command = {
  name: 'list',
  summary: 'show the backups in every repository, and what is proven about them',
  usage: 'list [--database NAME] [--repository NAME] [--json]',
  options: [
    ['-d, --database NAME', 'this database only'],
    ['-r, --repository NAME', 'this repository only'],
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values } = parse('list', argv, {
      ...configOption,
      ...jsonOption,
      database: { type: 'string', short: 'd' },
      repository: { type: 'string', short: 'r' },
    })
    const config = await configOf(values, context)
    const log = context.makeLog('error', 'err')
    const stays = config.watch.length === 0 ? 'STAYS' : isWatchOnly(config) ? 'FILE' : 'STAYS / FILE'
    const rows: string[][] = [['REPOSITORY', 'BACKUP', 'DATABASE', 'RESTORES TO', 'SIZE', stays, 'VERIFIED']]
    const found: unknown[] = []
    const failures: Failure[] = []
    chooseRepositories([...config.repositories, ...config.watch], values.repository)
    const { repositories, history, close } = look(config, context)
    const chosen = repositories.filter(({ repository: { name } }) => name === (values.repository ?? name))
    const asked = chosen.map(({ repository }) => repository)
    const { silent } = await thoseThatAnswer(asked, config, context)
    const proofs = history === null ? new Map() : createExternalProofs(history.external, log)()
    for (const { repository, observed } of chosen) {
      const { name } = repository
      let state: RepositoryState
      try {
        const mute = silent.find((one) => one.repository === repository)
        if (mute !== undefined) throw mute.error
        state = await createRepositoryLook({ ...observed, capacity: null, log })(context.signal)
      } catch (error) {
        context.signal.throwIfAborted()
        failures.push(failureIn(name, error))
        found.push({ repository: name, failure: toFailure(error) })
        continue // the other repositories may have the backup that is looked for
      }
      const plan = plansOf(config, [state], { ...context, history, confirmClock: false }).get(name)
      const backups = state.backups.filter(
        ({ database }) => values.database === undefined || database === values.database,
      )
      for (const backup of backups.toSorted((a, b) => b.consistentAt.getTime() - a.consistentAt.getTime())) {
        const proofs = state.proofs.get(backup.id) ?? []
        const notes = isDatedAhead([backup.startedAt, backup.finishedAt], context.clock.now()) ? ['clock-ahead'] : []
        const retention = plan?.decisions.get(backup.id) ?? null
        const held = retention?.reasons.includes('held') ?? false
        found.push({ repository: name, ...backup, notes, proofs, retention, held })
        rows.push([
          name,
          backup.id,
          backup.database === '' ? 'all' : printable(backup.database),
          formatTime(backup.consistentAt),
          formatBytes(backup.storedBytes),
          retention === null ? '' : wordsOf(retention),
          [verified(backup, proofs), ...(backup.isEncrypted ? ['encrypted'] : []), ...notes].join(', '),
        ])
      }
      for (const { id, state: what, failure } of state.unusable) {
        found.push({ repository: name, id, state: what, failure })
        rows.push([name, id, '', '', '', '', `${what}${failure ? `: ${oneLine(failure.message)}` : ''}`])
      }
    }
    for (const place of config.watch.filter(({ name }) => name === (values.repository ?? name))) {
      try {
        const store = history?.external ?? null
        const files = await surveyFiles(place, { store, clock: context.clock, signal: context.signal })
        for (const file of newestOf(files, files.length)) {
          if (values.database !== undefined && file.database !== values.database) continue
          const summary = summaryOf(file)
          const own = (proofs.get(file.id) ?? []).filter(
            ({ manifestChecksum }: ProofSummary) => manifestChecksum === summary.manifestChecksum,
          )
          found.push({ repository: place.name, ...summary, ...detailsOf(file, new Set()), proofs: own })
          const state = file.state === 'sound' ? '' : `${file.state}, `
          rows.push([
            place.name,
            file.id,
            printable(file.database),
            restoresNothing(file.state) ? '' : formatTime(summary.consistentAt),
            formatBytes(summary.storedBytes),
            printable(file.name),
            `${state}${verified(summary, own)}`,
          ])
        }
      } catch (error) {
        context.signal.throwIfAborted()
        const failure = toFailure(error)
        failures.push(failure)
        found.push({ repository: place.name, failure })
      }
    }
    close()
    if (values.json) context.out.write(`${JSON.stringify(found, null, 2)}\n`)
    else if (rows.length > 1) context.out.write(table(rows))
    else if (failures.length === 0) context.out.write('no backups yet\n')
    for (const failure of failures) context.err.write(errorText(failure))
    return failures[0] === undefined ? 0 : errorCodes[failures[0].code].exit
  },
}

/** The repositories, compared with what the sidecar knows of them; where its state cannot be read they are shown as they are. */
function look(config: ValidatedConfig, { clock, version, err, makeLog }: CliContext) {
  let history: ReturnType<typeof openHistoryIfThere> = null
  try {
    history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  } catch (error) {
    err.write(errorText(toFailure(error)))
  }
  return {
    history,
    repositories: makeRepositories(config, { clock, version: version.version, ledger: history }),
    close: () => history?.close(),
  }
}

/** How long it stays, or the first word of what keeps it; `expire --dry-run` tells all. */
function wordsOf({ keep, reasons, until }: RetentionDecision): string {
  if (!keep) return 'goes'
  if (until !== null) return `until ${until.toISOString().slice(0, 10)}`
  return reasons.find((word) => word === 'blocked' || word === 'held') ?? reasons[0] ?? ''
}

/** The newest verdict, and whether the backup was ever really restored. */
function verified({ warnings }: BackupSummary, proofs: readonly ProofSummary[]): string {
  const [newest] = proofs
  const notes = warnings > 0 ? `, ${warnings} warnings` : ''
  if (newest === undefined) return `never${notes}`
  const proven = proofs.find(({ provesRestore }) => provesRestore)
  const restored = proven === undefined ? 'never restored' : `restored ${formatTime(proven.finishedAt)}`
  return newest.verdict === 'pass'
    ? `pass, ${restored}${notes}`
    : `${newest.verdict} ${formatTime(newest.finishedAt)}, ${restored}${notes}`
}
