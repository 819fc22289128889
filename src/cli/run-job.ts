import type { Logger } from 'pino'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Core, createCore } from '../core.ts'
import { errorCodes } from '../domain/errors.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import { isBackupJob, type JobName, type JobParams, type Run } from '../runner/job.ts'
import type { CliContext } from './command.ts'
import { oneLine } from './format.ts'
import { ProgressLine } from './progress.ts'

export interface RunJobOptions {
  readonly config: ValidatedConfig
  readonly job: JobName
  /** Log every step; without it the report tells all that matters. */
  readonly verbose: boolean
  readonly params: JobParams
  readonly restoreTarget?: ConnectionSource
  /** Throws on what the operator has mistyped: then there is no run. */
  readonly refuse?: (core: Core) => Promise<unknown>
  /** Goes on while the job runs. */
  readonly meanwhile?: (core: Core, log: Logger) => { stop(): Promise<void> }
  /** Called when the run changes. */
  readonly onProgress?: (run: Run) => void
  /** Called with the finished run while the repositories are still at hand. */
  readonly report: (run: Run, core: Core) => Promise<void> | void
}

/**
 * Runs one job here and now, sharing history and lanes with a sidecar on the same state directory. An interrupt cancels
 * the run and waits for it to clean up. Gives the exit code: 0, or the one of the failure's code.
 *
 * @throws LifeboatError `conflict` when the same run is under way already, or another lifeboat has the lease; what `refuse` throws
 */
export async function runJob(
  { config, verbose, job, params, restoreTarget, refuse, meanwhile, onProgress, report }: RunJobOptions,
  context: CliContext,
): Promise<number> {
  const { clock, version, signal } = context
  const log = context.makeLog(verbose ? 'info' : 'silent', 'err')
  const core = await createCore(config, {
    clock,
    log,
    version: version.version,
    ...(restoreTarget ? { restoreTarget } : {}),
  })
  const progress = new ProgressLine(context.err, { clock })
  let beside: { stop(): Promise<void> } | undefined
  try {
    await refuse?.(core)
    const writes = isBackupJob(job) || job === 'expire'
    const repository = typeof params.repository === 'string' ? params.repository : null
    const waiting = (words: string) => void context.err.write(`${oneLine(words)}\n`)
    if (writes) await core.leases.acquire(repository, signal, waiting, 1000 * config.observe.timeoutSeconds)
    await core.tidy()
    beside = meanwhile?.(core, log)
    const { id, lane } = core.runner.trigger({ job, params, trigger: 'cli', requestedBy: context.user })
    const leftOut = writes ? core.leases.leftOut(repository) : []
    for (const { message } of leftOut) context.err.write(`left out: ${oneLine(message)}\n`)
    const ahead = core.runner.list({ state: 'running' }).find((run) => run.lane === lane && run.id !== id)
    if (ahead !== undefined) context.err.write(`waiting for run ${ahead.id} in lane ${lane}\n`)
    const stopListening = core.runner.onChange((run) => {
      if (run.id !== id) return
      progress.show(run)
      onProgress?.(run)
    })
    const onAbort = () => core.runner.cancel(id)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const run = await core.runner.wait(id)
    signal.removeEventListener('abort', onAbort)
    stopListening()
    progress.clear()
    await report(run, core)
    if (run.retries > 0) context.err.write(retriesText(run))
    for (const { name, failure } of run.hooks) {
      if (failure !== undefined) context.err.write(`warning: hook ${name} failed: ${oneLine(failure.message)}\n`)
    }
    if (run.state === 'succeeded') return 0
    return run.state === 'cancelled' ? errorCodes.cancelled.exit : errorCodes[run.failure?.code ?? 'unexpected'].exit
  } finally {
    progress.clear()
    await beside?.stop()
    await core.close()
  }
}

/** What of a run was tried again, and why; one line each. */
function retriesText({ retries, attempts, items, failure: last }: Run): string {
  // It was told above.
  const told = new Set([last, ...items.map(({ failure }) => failure)].map((failure) => failure?.message))
  const more = retries > attempts.length ? `, of which the last ${attempts.length}` : ''
  const lines = attempts.map(
    ({ what, failedAt, reason, failure, waitSeconds }) =>
      `  ${failedAt}  ${oneLine(what)} failed, since ${reason}${told.has(failure.message) ? '' : `: ${oneLine(failure.message)}`}; again ${Math.round(waitSeconds)} s later\n`,
  )
  return `retries: ${retries}${more}\n${lines.join('')}`
}
