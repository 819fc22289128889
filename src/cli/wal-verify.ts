import { join } from 'node:path'
import { createCore } from '../core.ts'
import { errorCodes, type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { findInstallations } from '../postgres/installations.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { newRunId } from '../runner/run-id.ts'
import { recordCheck } from '../wal-check/check-records.ts'
import { remedyFor } from '../wal-check/problems.ts'
import { verifyWal, type WalVerification } from '../wal-check/verify-wal.ts'
import { failureIn, thoseThatAnswer } from './answering.ts'
import { type CliContext, configOf, configOption, jsonOption, parse } from './command.ts'
import { errorText } from './error-text.ts'
import { formatBytes, oneLine, printable } from './format.ts'
import { ProgressLine } from './progress.ts'

export const walVerifyUsage = 'wal verify [--repository NAME] [--all] [--records] [--limit N] [--json]'

/**
 * `lifeboat wal verify`: reads the stored WAL, each segment once. Gives the exit code: 1 when something is wrong with it, 5 when
 * some of it is encrypted and could not be read.
 *
 * @throws LifeboatError for everything that keeps it from beginning
 */
export async function verifyStoredWal(argv: readonly string[], context: CliContext): Promise<number> {
  const { values } = parse('wal', argv, {
    ...configOption,
    ...jsonOption,
    repository: { type: 'string', short: 'r' },
    all: { type: 'boolean' },
    records: { type: 'boolean' },
    limit: { type: 'string' },
  })
  const limit = values.limit === undefined ? null : Number(values.limit)
  if (limit !== null && !(Number.isSafeInteger(limit) && limit > 0))
    throw new LifeboatError('usage-invalid', '--limit must be a number of segments: 1 or more')
  const config = await configOf(values, context)
  chooseRepositories(config.repositories, values.repository)
  const { clock, version, signal, out, err } = context
  const core = await createCore(config, { clock, log: context.makeLog('silent', 'err'), version: version.version })
  const line = new ProgressLine(err)
  const done: WalVerification[] = []
  const failures: Failure[] = []
  try {
    const installations = values.records ? await findInstallations(config.postgres.binDir) : []
    const all = core.repositories.map(({ repository }) => repository)
    const { answering, silent } = await thoseThatAnswer(chooseRepositories(all, values.repository), config, context)
    failures.push(...silent.map(({ error }) => toFailure(error)))
    for (const repository of answering) {
      const folder = join(
        config.workDir,
        newRunId(clock.now(), 'verify', () => false),
      )
      try {
        const verified = await verifyWal({
          ...{ repository, records: core.history.wal.verified, clock, all: values.all === true, limit, signal },
          patienceMs: 1000 * config.observe.timeoutSeconds,
          ...(values.records
            ? { checkRecords: recordCheck({ wal: repository.wal, installations, folder, signal }) }
            : {}),
          onProgress: ({ bytes, name }) =>
            line.show({ progress: { done: bytes, total: null, unit: 'bytes', message: `${repository.name} ${name}` } }),
        })
        done.push(verified)
      } catch (error) {
        signal.throwIfAborted()
        failures.push(failureIn(repository.name, error))
      }
      line.clear()
    }
  } finally {
    line.clear()
    await core.close()
  }
  if (values.json) out.write(`${JSON.stringify(done.map(withRemedies), null, 2)}\n`)
  else for (const one of done) out.write(describe(one))
  for (const failure of failures) err.write(errorText(failure))
  if (failures[0] !== undefined) return errorCodes[failures[0].code].exit
  if (done.some(({ bad }) => bad.length > 0)) return 1
  return done.some(({ unread }) => unread > 0) ? errorCodes['verification-inconclusive'].exit : 0
}

const withRemedies = (one: WalVerification) => ({
  ...one,
  bad: one.bad.map((bad) => ({ ...bad, remedy: remedyFor(bad.problem) })),
})

function describe(one: WalVerification): string {
  const { repository, read, bytes, known, unread, unreadFailure, gone, complete, bad } = one
  const parts = [
    `${read} read (${formatBytes(bytes)})`,
    `${known} known to be whole`,
    ...(unread > 0 ? [`${unread} ENCRYPTED, NOT READ`] : []),
    ...(gone > 0 ? [`${gone} removed meanwhile`] : []),
    ...(complete ? [] : ['more are left: the limit was reached']),
    bad.length > 0 ? `${bad.length} BAD` : unread > 0 ? 'inconclusive' : 'nothing wrong',
  ]
  const why = unreadFailure === null ? '' : `  not read: ${unreadFailure.message}\n    ${unreadFailure.hint ?? ''}\n`
  const lines = bad.map(
    (one) =>
      `  ${printable(one.name)}${one.hash === null ? '' : `-${one.hash}`} of ${one.systemIdentifier}: ${one.problem}: ${oneLine(one.detail)}\n    ${remedyFor(one.problem)}\n`,
  )
  return `${printable(repository)}: ${parts.join(', ')}\n${why}${lines.join('')}`
}
