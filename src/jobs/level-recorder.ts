import type { Clock } from '../clock.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { Check, LevelResult, Verdict } from '../domain/proof.ts'
import { wasKilled } from '../postgres/failures.ts'

/**
 * Stops a level: what was found leaves nothing more to look at. `cause` is short and stable (metrics-safe), the message
 * says what was found.
 */
export class VerdictError extends Error {
  override readonly name = 'VerdictError'
  readonly verdict: Exclude<Verdict, 'pass'>
  readonly reason: string
  readonly check: string

  constructor(verdict: Exclude<Verdict, 'pass'>, cause: string, check: string, message: string) {
    super(message)
    this.verdict = verdict
    this.reason = cause
    this.check = check
  }
}

/** Failures of the surroundings: they say nothing about the backup, so they must not look like its corruption. */
const surroundings: Readonly<Record<string, string>> = {
  'disk-full': 'disk-full',
  'program-missing': 'program-missing',
  'client-too-old': 'program-missing',
  'storage-failed': 'repository-unreadable',
  'storage-unreachable': 'repository-unreadable',
  'storage-credentials': 'repository-unreadable',
  'server-unreachable': 'scratch-server-lost',
  'usage-invalid': 'scratch-server-unusable',
  'identity-missing': 'identity-missing',
  'identity-mismatch': 'identity-mismatch',
  'config-invalid': 'identity-unusable',
}

function defaultCause({ name, verdict }: Check): string {
  return `${name.replaceAll(' ', '-')}-${verdict === 'fail' ? 'differs' : 'unknown'}`
}

/** What befell a program or a statement and may not befall the next: it was killed, or this machine had run short. */
function passingCause(error: unknown): string | undefined {
  if (wasKilled(error)) return 'program-killed'
  const state = error instanceof LifeboatError ? error.details?.sqlState : undefined
  // Class 53, insufficient resources: no memory, no disk, no connection left in the scratch server.
  return typeof state === 'string' && state.startsWith('53') ? 'resources-exhausted' : undefined
}

/** Collects the checks of one level and makes its verdict of them: the worst one counts. */
export class LevelRecorder {
  readonly #clock: Clock
  readonly #started: number
  readonly #checks: Check[] = []
  #cause: string | undefined
  #verdict: Verdict = 'pass'
  #stop: VerdictError | null = null

  constructor(clock: Clock) {
    this.#clock = clock
    this.#started = clock.monotonic()
  }

  get verdict(): Verdict {
    return this.#verdict
  }

  /** Adds a check; `cause` names a verdict that is not `pass` (default: the check's name, and `-differs` or `-unknown`). */
  add(check: Check, cause = defaultCause(check)): void {
    this.#checks.push(check)
    if (check.verdict === 'pass' || this.#verdict === 'fail') return
    if (check.verdict === 'inconclusive' && this.#verdict === 'inconclusive') return
    this.#verdict = check.verdict
    this.#cause = cause
  }

  pass(name: string, detail?: string): void {
    this.add({ name, verdict: 'pass', ...(detail === undefined ? {} : { detail }) })
  }

  /**
   * Runs one look. A VerdictError it throws becomes its check; a failure of the surroundings an `inconclusive` one; any
   * other LifeboatError a `fail` (or what `otherwise` says) with the cause given. Cancellation goes through, unless the
   * signal's reason is itself a verdict: it is noted once, for the look that it ended. Gives null when it did not end well.
   */
  async look<T>(
    name: string,
    cause: string,
    signal: AbortSignal,
    work: () => Promise<T>,
    otherwise: Exclude<Verdict, 'pass'> = 'fail',
  ): Promise<T | null> {
    try {
      return await work()
    } catch (error) {
      const stop: unknown = signal.aborted ? signal.reason : null
      if (stop instanceof VerdictError) this.#addStop(name, stop)
      else if (signal.aborted) throw stop
      else if (error instanceof VerdictError)
        this.add({ name: error.check, verdict: error.verdict, detail: error.message }, error.reason)
      else this.#addFailure(name, cause, error, otherwise)
      return null
    }
  }

  result(): LevelResult {
    return {
      verdict: this.#verdict,
      ...(this.#cause === undefined ? {} : { cause: this.#cause }),
      checks: this.#checks,
      finishedAt: this.#clock.now().toISOString(),
      durationSeconds: (this.#clock.monotonic() - this.#started) / 1000,
    }
  }

  #addStop(name: string, stop: VerdictError): void {
    if (this.#stop === stop) return
    this.#stop = stop
    this.add({ name, verdict: stop.verdict, detail: stop.message }, stop.reason)
  }

  #addFailure(name: string, cause: string, error: unknown, otherwise: Exclude<Verdict, 'pass'>): void {
    const { code, message } = toFailure(error)
    const outside = surroundings[code] ?? passingCause(error)
    if (outside !== undefined) this.add({ name, verdict: 'inconclusive', detail: message }, outside)
    else if (error instanceof LifeboatError) this.add({ name, verdict: otherwise, detail: message }, cause)
    else throw error // a fault of ours proves nothing about the backup
  }
}
