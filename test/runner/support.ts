import { mkdtempSync, rmSync } from 'node:fs'
import { type Logger, pino } from 'pino'
import type { Test } from 'tap'
import type { Clock } from '../../src/clock.ts'
import { type History, type HistoryOptions, openHistory } from '../../src/runner/history.ts'
import type { Job, JobContext, JobName, JobParams, RunItem } from '../../src/runner/job.ts'
import { Runner, type RunnerOptions } from '../../src/runner/runner.ts'
import { FakeClock } from '../support/fake-clock.ts'

export type Line = Readonly<Record<string, unknown>>

/** A real logger whose lines are kept. */
export function memoryLog(): { log: Logger; lines: Line[] } {
  const lines: Line[] = []
  return { log: pino({ level: 'trace' }, { write: (line) => lines.push(JSON.parse(line)) }), lines }
}

/** One call of a job's `run`, in the hands of the test. */
export interface Call {
  readonly params: JobParams
  readonly context: JobContext
  succeed(): void
  fail(error: unknown): void
}

export interface PuppetOptions {
  readonly name?: JobName
  readonly lane?: string
  readonly timeoutSeconds?: number
  /** Throw the signal's reason as soon as it aborts, as a good job does. Default true. */
  readonly obeys?: boolean
}

/** A job that does what the test says. */
export function puppet({ name = 'dump', lane = 'backup', timeoutSeconds = 3600, obeys = true }: PuppetOptions = {}): {
  job: Job
  calls: Call[]
} {
  const calls: Call[] = []
  const job: Job = {
    name,
    lane,
    timeoutSeconds,
    run(params, context) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      calls.push({ params, context, succeed: resolve, fail: reject })
      if (obeys) context.signal.addEventListener('abort', () => reject(context.signal.reason))
      if (obeys && context.signal.aborted) reject(context.signal.reason)
      return promise
    },
  }
  return { job, calls }
}

export function item(database: string, more: Partial<RunItem> = {}): RunItem {
  return { outcome: 'succeeded', backupType: 'dump', database, finishedAt: '2026-03-01T00:00:00.000Z', ...more }
}

/** A history in `directory`. */
export function history(directory: string, clock: Clock, more: Partial<HistoryOptions> = {}): History {
  return openHistory({ file: `${directory}/lifeboat.db`, clock, log: memoryLog().log, ...more })
}

/** A directory in memory, for tests that commit thousands of times: each commit waits for the disk. */
export function memoryDirectory(t: Test): string {
  const directory = mkdtempSync('/dev/shm/lifeboat-test-')
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A runner on a new history, closed at the end of the test. */
export function newRunner(t: Test, jobs: readonly Job[], more: Partial<RunnerOptions> = {}, directory = t.testdir({})) {
  const clock = new FakeClock()
  const { log, lines } = memoryLog()
  const file = history(directory, clock)
  const runner = new Runner({ jobs, schedules: [], history: file, clock, log, ...more })
  t.teardown(async () => {
    const stopped = runner.stop()
    await clock.advance(60_000)
    await stopped
    file.close()
  })
  return { runner, clock, lines, history: file }
}

/** What is thrown by `action`, for looking at more than its class. */
export function thrownBy(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return undefined
}
