import type { JobTotals } from './history-totals.ts'
import type { Job, JobSummary, Progress, Run } from './job.ts'

/** Puts together what is known of one job: its totals, when it comes next, and the run that is running now, if any. */
export function summarize(
  { name, lane, timeoutSeconds }: Job,
  totals: JobTotals,
  schedule: { readonly cron: string; readonly at: Date | null } | null,
  running: Run | undefined,
): JobSummary {
  return {
    job: name,
    lane,
    timeoutSeconds,
    schedule: schedule?.cron ?? null,
    nextRunAt: schedule?.at ?? null,
    ...totals,
    running: running !== undefined,
    progressRatio: running === undefined ? null : ratio(running.progress),
  }
}

/** Done of total, 0 to 1; null while the total is not known. */
function ratio(progress: Progress | null): number | null {
  if (progress === null || progress.total === null || !(progress.total > 0)) return null
  const value = progress.done / progress.total
  return Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : null
}
