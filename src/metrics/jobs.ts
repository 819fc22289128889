import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** What the history and the schedule say about each kind of work. */
export function writeJobs(metrics: MetricWriter, { jobs }: Catalog): void {
  for (const summary of jobs) {
    const { job } = summary
    metrics.set('lifeboat_job_runs_total', { job }, summary.runs)
    metrics.set('lifeboat_job_failures_total', { job }, summary.failures)
    metrics.set('lifeboat_job_last_start_timestamp_seconds', { job }, summary.lastStartAt)
    metrics.set('lifeboat_job_last_success_timestamp_seconds', { job }, summary.lastSuccessAt)
    metrics.set('lifeboat_job_last_duration_seconds', { job }, summary.lastDurationSeconds)
    metrics.set('lifeboat_job_next_run_timestamp_seconds', { job }, summary.nextRunAt)
    metrics.set('lifeboat_job_running', { job }, summary.running)
    metrics.set('lifeboat_job_progress_ratio', { job }, summary.progressRatio)
  }
}
