import type { ValidatedConfig } from '../config/validated.ts'
import { openHistoryIfThere } from '../core.ts'
import { errorCodes, type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { parseWalName } from '../domain/wal.ts'
import type { ArchiverView } from '../observe/archiver.ts'
import { createArchiverLook, missingFrom } from '../observe/archiver.ts'
import { createLsnClock } from '../observe/lsn-clock.ts'
import { readOnlyClock, readOnlyIndex } from '../observe/recovery-offline.ts'
import { createRepositoryLook } from '../observe/repository.ts'
import { createArchiverProbe } from '../observe/server.ts'
import { createSlotsLook } from '../observe/slots.ts'
import { StoredWalIndex, type StoredWalOptions } from '../observe/stored-wal.ts'
import { createWalView } from '../observe/wal.ts'
import { WalArchive } from '../observe/wal-archive.ts'
import { reportWal, type WalReport } from '../observe/wal-report.ts'
import type { StoredWalState } from '../observe/wal-state.ts'
import { createLsnClockProbe } from '../postgres/lsn-clock.ts'
import { makeRepositories } from '../repositories.ts'
import type { Repository } from '../repository/repository.ts'
import type { History } from '../runner/history.ts'
import { failureIn, thoseThatAnswer } from './answering.ts'
import { type CliContext, configOf, configOption, jsonOption, parse } from './command.ts'
import { errorText } from './error-text.ts'
import { describeGaps, describeWal } from './wal-words.ts'

export const walStatusUsages = ['wal status [--json]', 'wal gaps [--json]'] as const

/** `lifeboat wal status`: what WAL is where, and what would be lost right now. */
export async function showWalStatus(argv: readonly string[], context: CliContext): Promise<number> {
  const { report, failures, json } = await lookAtWal(argv, context, { listsAll: false })
  context.out.write(json ? toJson(report) : describeWal(report))
  return tell(failures, context)
}

/** `lifeboat wal gaps`: what is missing. Gives 1 when something is that nobody has acknowledged. */
export async function showWalGaps(argv: readonly string[], context: CliContext): Promise<number> {
  const { report, failures, json } = await lookAtWal(argv, context, { listsAll: true })
  const gaps = report.repositories.map(({ repository, missingSegments, gaps }) => ({
    repository,
    missingSegments,
    gaps,
  }))
  context.out.write(json ? toJson(gaps) : describeGaps(report))
  const code = tell(failures, context)
  return code !== 0 ? code : gaps.some(({ missingSegments }) => (missingSegments ?? 0) > 0) ? 1 : 0
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** What could not be looked at stands on stderr; the rest was told. */
function tell(failures: readonly Failure[], { err }: CliContext): number {
  for (const failure of failures) err.write(errorText(failure))
  return failures[0] === undefined ? 0 : errorCodes[failures[0].code].exit
}

interface LookOptions {
  /** Also what the sidecar has listed before: what has vanished amid the rest since then is found by nothing else. */
  readonly listsAll: boolean
}

/** Looks by itself, so that it also works while no sidecar runs; it writes nothing. */
async function lookAtWal(
  argv: readonly string[],
  context: CliContext,
  { listsAll }: LookOptions,
): Promise<{ readonly report: WalReport; readonly failures: readonly Failure[]; readonly json: boolean }> {
  const { values } = parse('wal', argv, { ...configOption, ...jsonOption })
  const config = await configOf(values, context)
  if (config.repositories.length === 0)
    throw new LifeboatError('config-invalid', 'no repository is configured: lifeboat only watches, and has no WAL', {
      hint: 'set repositories',
    })
  const { clock, signal, makeLog } = context
  const log = makeLog('silent', 'err')
  const history = openHistoryIfThere(config, { clock, log })
  const failures: Failure[] = []
  const attempt = async <T>(look: Promise<T>, repository: string | null = null): Promise<T | null> => {
    try {
      return await look
    } catch (error) {
      signal.throwIfAborted()
      failures.push(repository === null ? toFailure(error) : failureIn(repository, error))
      return null
    }
  }
  const { postgres, wal } = config
  const lsnClock = createLsnClock({
    probe: createLsnClockProbe(postgres),
    store: readOnlyClock(history?.wal ?? null),
    clock,
    log,
  })
  try {
    const server = await attempt(lsnClock.look(signal))
    const slots = createSlotsLook({ source: postgres, ...postgres, limitBytes: wal.slotLimitBytes })
    const archive = wal.archive === null ? null : await attempt(lookOnce(wal.archive, context))
    const stored = await lookAtStored(config, history, {
      context,
      attempt,
      records: readOnlyIndex(listsAll ? null : (history?.wal ?? null)),
    })
    const view = createWalView({ holes: wal.holes, clock: lsnClock, hasArchive: wal.archive !== null })
    const state = view({
      ...{ at: clock.now(), archive, clock: server ?? lsnClock.remembered },
      stored: stored.map(({ state }) => state),
      repositories: stored.map(({ backups }) => backups),
      // One that is down was told of already.
      slots: server === null ? null : await attempt(slots(signal)),
    })
    const missing = missingFrom(wal.archive)
    const look = createArchiverLook({ sample: createArchiverProbe(postgres), missing: missing && nowhere, clock })
    const archiver: ArchiverView | null = server === null ? null : await attempt(look(signal))
    return { report: reportWal(state, archiver, clock.now()), failures, json: values.json === true }

    /** What is stored was pruned from the archive. */
    async function nowhere(names: readonly string[], stop: AbortSignal): Promise<readonly string[]> {
      const absent = (await missing?.(names, stop)) ?? []
      const isStored = (name: string) =>
        stored.some(({ state: { systems } }) => {
          const system = systems.get(server?.systemIdentifier ?? '')
          const file = system === undefined ? null : parseWalName(name, system.coverage.segmentSize)
          return file?.kind === 'segment' && system?.coverage.segments(file.timeline).has(file.segment)
        })
      return absent.filter((name) => !isStored(name))
    }
  } finally {
    await lsnClock.close()
    history?.close()
  }
}

async function lookOnce(directory: string, { clock, signal, makeLog }: CliContext) {
  const archive = new WalArchive({ directory, clock, log: makeLog('silent', 'err'), onHint: () => {} })
  try {
    return await archive.look(signal)
  } finally {
    archive.close()
  }
}

/** The WAL and the backups of each repository that can be looked at. */
async function lookAtStored(
  config: ValidatedConfig,
  history: History | null,
  {
    context,
    attempt,
    records,
  }: {
    context: CliContext
    attempt: <T>(look: Promise<T>, repository: string) => Promise<T | null>
    records: StoredWalOptions['records']
  },
) {
  const { clock, version, signal, makeLog } = context
  const log = makeLog('silent', 'err')
  const found: { readonly state: StoredWalState; readonly backups: NonNullable<Awaited<ReturnType<typeof look>>> }[] =
    []
  const look = (repository: Repository) =>
    createRepositoryLook({ repository, capacity: null, files: repository.storage.files ?? null, log })(signal)
  const made = makeRepositories(config, { clock, version: version.version, ledger: history })
  const { answering, silent } = await thoseThatAnswer(
    made.map(({ repository }) => repository),
    config,
    context,
  )
  for (const { repository, error } of silent) await attempt(Promise.reject(error), repository.name)
  for (const repository of answering) {
    const index = new StoredWalIndex({ repository, records, clock, log })
    try {
      const state = await attempt(index.lookAtAll(signal), repository.name)
      const backups = state === null ? null : await attempt(look(repository), repository.name)
      if (state !== null && backups !== null) found.push({ state, backups })
    } finally {
      await index.close()
    }
  }
  return found
}
