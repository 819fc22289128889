import { type Clock, withDeadline } from '../clock.ts'
import type { HookVariable } from '../config/hooks.ts'
import type { HookConfig } from '../config/validated.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Job, JobContext, JobParams, RunItem } from '../runner/job.ts'
import { DecidedError, outcomeOf } from '../runner/outcome.ts'
import { runHook } from './run-hook.ts'

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

type Facts = Readonly<Partial<Record<HookVariable, string>>>

/**
 * What all hooks after a job together may still take once the run was told to end. The runner waits 30 seconds for a job
 * before it gives the run a verdict without it, and a hook that ignores SIGTERM takes five more.
 */
const hurriedMs = 10_000

/**
 * A job with the commands that belong around it. One that runs before and fails makes the run fail before it has begun
 * (`hook-failed`), unless it only warns; the others that run before are then not run. Those that run after are, whatever came of
 * the job; neither their failure nor a cancel, timeout or shutdown that comes while they run changes that.
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
  { params, context }: { params: JobParams; context: JobContext },
): Promise<void> {
  const items: RunItem[] = []
  const facts: Facts = {
    LIFEBOAT_CLUSTER: options.cluster,
    LIFEBOAT_JOB: job.name,
    LIFEBOAT_RUN_ID: context.runId,
    LIFEBOAT_TRIGGER: context.trigger,
  }
  const after = (outcome: Facts) =>
    runAllAfter(
      hooks.filter(({ when }) => when === 'after'),
      { ...facts, ...outcome },
      options,
      context,
    )
  try {
    for (const hook of hooks.filter(({ when }) => when === 'before')) {
      await runBefore(hook, { ...facts, LIFEBOAT_STATE: 'running' }, options, context)
    }
    await job.run(params, {
      ...context,
      item: (item) => {
        items.push(item)
        context.item(item)
      },
    })
  } catch (error) {
    const { aborted } = context.signal
    const outcome = outcomeOf(error, context.signal)
    await after(outcomeFacts(outcome.state, outcome.failure, items))
    // What came while the hooks ran is not why the job failed.
    throw context.signal.aborted && !aborted ? new DecidedError(outcome, error) : error
  }
  await after(outcomeFacts('succeeded', null, items))
}

/** Values may hold anything but NUL: the environment has no quoting to escape from. The kernel takes 128 KiB for one. */
function outcomeFacts(state: string, failure: Failure | null, items: readonly RunItem[]): Facts {
  const ids = new Set(items.flatMap(({ outcome, backupId }) => (outcome === 'succeeded' && backupId ? [backupId] : [])))
  return {
    LIFEBOAT_STATE: state,
    LIFEBOAT_FAILURE_CODE: failure?.code ?? '',
    LIFEBOAT_FAILURE_MESSAGE: (failure?.message ?? '').replaceAll('\0', '').slice(0, 4096),
    LIFEBOAT_BACKUP_IDS: [...ids].slice(0, mostIds).join(' '),
    LIFEBOAT_FAILED_ITEMS: String(items.filter(({ outcome }) => outcome === 'failed').length),
  }
}

/** An id has 28 characters. */
const mostIds = 1_000

async function runBefore(hook: HookConfig, facts: Facts, options: HookOptions, context: JobContext): Promise<void> {
  context.progress({ done: 0, total: null, unit: 'steps', message: `running hook ${hook.name}` })
  const failure = await runOne(hook, facts, options, context, context.signal)
  context.signal.throwIfAborted()
  if (failure === null || hook.onFailure === 'warn') return
  throw new LifeboatError('hook-failed', `hook ${hook.name} failed, so the job was not begun: ${failure.message}`, {
    hint: failure.hint ?? 'mend the command, or set onFailure: warn',
  })
}

/** Also of a run that was cancelled: whoever set something up before the job has to take it down. */
async function runAllAfter(
  hooks: readonly HookConfig[],
  facts: Facts,
  options: HookOptions,
  context: JobContext,
): Promise<void> {
  const succeeded = facts.LIFEBOAT_STATE === 'succeeded'
  const wanted = hooks.filter(({ on }) => on === 'always' || (on === 'success') === succeeded)
  if (wanted.length === 0) return
  const [hurry, over] = [new AbortController(), new AbortController()]
  const onAbort = () =>
    void options.clock.sleep(hurriedMs, over.signal).then(
      () => hurry.abort(context.signal.reason),
      () => {},
    )
  context.signal.addEventListener('abort', onAbort, { signal: over.signal })
  if (context.signal.aborted) onAbort()
  try {
    for (const hook of wanted) {
      await runOne(hook, facts, options, context, hurry.signal)
    }
  } finally {
    over.abort()
  }
}

/** Never throws: gives why it failed, or null. */
async function runOne(
  hook: HookConfig,
  facts: Facts,
  { clock, failures }: HookOptions,
  context: JobContext,
  signal: AbortSignal,
): Promise<Failure | null> {
  const { name, when, timeoutMs } = hook
  const begun = clock.monotonic()
  const reason = new LifeboatError('timed-out', `hook ${name} took longer than ${timeoutMs / 1000} s`, {
    hint: 'see what it waits for, or allow it more time: timeout',
  })
  const failure = await withDeadline(clock, { ms: timeoutMs, reason, signals: [signal] }, (limit) =>
    runHook(hook, { ...facts, LIFEBOAT_WHEN: when }, limit),
  ).then(() => null, toFailure)
  const result = { name, when, durationSeconds: (clock.monotonic() - begun) / 1000 }
  if (failure === null) {
    context.log.info({ hook: name, when, durationSeconds: result.durationSeconds }, 'hook succeeded')
    context.hook({ ...result, outcome: 'succeeded' })
    return null
  }
  failures.add(name)
  context.log.warn({ hook: name, when, ...failure }, 'hook failed')
  context.hook({ ...result, outcome: 'failed', failure })
  return failure
}
