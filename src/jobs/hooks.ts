import type { Clock } from '../clock.ts'
import type { HookConfig } from '../config/validated.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { runProgram } from '../postgres/programs.ts'
import type { Job, JobContext, RunItem } from '../runner/job.ts'

/** Counts failures of hooks by name, since the start of the process. */
export class HookFailures {
  readonly #counts = new Map<string, number>()

  /** All hooks are there from the start: a series that begins with its first failure hides that failure from `increase`. */
  constructor(hooks: readonly HookConfig[]) {
    for (const { name } of hooks) this.#counts.set(name, 0)
  }

  add(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
  }

  all(): ReadonlyMap<string, number> {
    return this.#counts
  }
}

export interface HookOptions {
  readonly hooks: readonly HookConfig[]
  readonly cluster: string
  readonly clock: Clock
  readonly failures: HookFailures
}

/** A run that ends because of a shutdown has 30 seconds in all. */
const hurriedMs = 10_000

/**
 * A job with the commands that belong around it. One that runs before and fails makes the run fail before it has begun
 * (`hook-failed`), unless it only warns; the others that run before are then not run. Those that run after are, whatever came of
 * the job; their failure never changes that.
 */
export function withHooks(job: Job, options: HookOptions): Job {
  const hooks = options.hooks.filter(({ jobs }) => jobs.includes(job.name))
  if (hooks.length === 0) return job
  return { ...job, run: (params, context) => runAround(job, hooks, options, { params, context }) }
}

async function runAround(
  job: Job,
  hooks: readonly HookConfig[],
  options: HookOptions,
  { params, context }: { params: Parameters<Job['run']>[0]; context: JobContext },
): Promise<void> {
  const items: RunItem[] = []
  const facts = { LIFEBOAT_CLUSTER: options.cluster, LIFEBOAT_JOB: job.name, LIFEBOAT_RUN_ID: context.runId }
  let failure: Failure | null = null
  try {
    for (const hook of hooks.filter(({ when }) => when === 'before')) {
      await runBefore(hook, { ...facts, LIFEBOAT_WHEN: 'before' }, options, context)
    }
    await job.run(params, {
      ...context,
      item: (item) => {
        items.push(item)
        context.item(item)
      },
    })
  } catch (error) {
    failure = toFailure(context.signal.aborted ? context.signal.reason : error)
    throw error
  } finally {
    const env = { ...facts, LIFEBOAT_WHEN: 'after', ...outcomeOf(failure, items) }
    for (const hook of hooks.filter(({ when }) => when === 'after')) {
      const isWanted = hook.on === 'always' || (hook.on === 'failure') === (failure !== null)
      if (isWanted) await runAfter(hook, env, options, context)
    }
  }
}

/** Values may hold anything but NUL: the environment has no quoting to escape from. */
function outcomeOf(failure: Failure | null, items: readonly RunItem[]): Readonly<Record<string, string>> {
  const ids = new Set(items.flatMap(({ outcome, backupId }) => (outcome === 'succeeded' && backupId ? [backupId] : [])))
  return {
    LIFEBOAT_STATE: failure === null ? 'succeeded' : failure.code === 'cancelled' ? 'cancelled' : 'failed',
    LIFEBOAT_FAILURE_CODE: failure?.code ?? '',
    LIFEBOAT_FAILURE_MESSAGE: (failure?.message ?? '').replaceAll('\0', '').slice(0, 4096),
    LIFEBOAT_BACKUP_IDS: [...ids].join(' ').slice(0, 32_768),
    LIFEBOAT_FAILED_ITEMS: String(items.filter(({ outcome }) => outcome === 'failed').length),
  }
}

async function runBefore(
  hook: HookConfig,
  env: Readonly<Record<string, string>>,
  options: HookOptions,
  context: JobContext,
): Promise<void> {
  context.progress({ done: 0, total: null, unit: 'steps', message: `running hook ${hook.name}` })
  try {
    await run(hook, env, [context.signal, AbortSignal.timeout(hook.timeoutMs)])
  } catch (error) {
    context.signal.throwIfAborted()
    note(hook, error, options, context)
    if (hook.onFailure === 'warn') return
    const message = `hook ${hook.name} failed, so ${env.LIFEBOAT_JOB} was not begun: ${toFailure(error).message}`
    throw new LifeboatError('hook-failed', message, { hint: 'mend the command, or set onFailure: warn', cause: error })
  }
}

/** Also of a run that was cancelled: whoever set something up before the job has to take it down. */
async function runAfter(
  hook: HookConfig,
  env: Readonly<Record<string, string>>,
  options: HookOptions,
  context: JobContext,
): Promise<void> {
  try {
    const timeoutMs = context.signal.aborted ? Math.min(hook.timeoutMs, hurriedMs) : hook.timeoutMs
    await run(hook, env, [AbortSignal.timeout(timeoutMs)])
  } catch (error) {
    note(hook, error, options, context)
  }
}

async function run(
  hook: HookConfig,
  env: Readonly<Record<string, string>>,
  signals: readonly AbortSignal[],
): Promise<void> {
  try {
    // What it prints is read and thrown away line by line: its last words on stderr stand in the error.
    await runProgram({
      program: hook.program,
      args: hook.args,
      env,
      signal: AbortSignal.any([...signals]),
      onStdoutLine: () => {},
    })
  } catch (error) {
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      throw new LifeboatError('timed-out', `hook ${hook.name} took longer than ${hook.timeoutMs / 1000} s`, {
        cause: error,
      })
    }
    throw error
  }
}

function note(hook: HookConfig, error: unknown, { failures }: HookOptions, { log }: JobContext): void {
  failures.add(hook.name)
  log.warn({ hook: hook.name, when: hook.when, ...toFailure(error) }, 'hook failed')
}
