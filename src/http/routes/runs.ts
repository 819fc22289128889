import { type Static, Type } from 'typebox'
import { LifeboatError } from '../../domain/errors.ts'
import type { JobSummary, Run } from '../../runner/job.ts'
import type { App } from '../instance.ts'
import { describeLease, LeaseSchema } from '../leases.ts'
import type { HttpDependencies, RunnerPort } from '../ports.ts'
import type { JobSchema, RunSchema } from '../schema-runs.ts'
import { JobRef, problems, RunParams, RunRef, RunsQuery } from '../schemas.ts'

const Jobs = Type.Object(
  { jobs: Type.Array(JobRef), leases: Type.Array(LeaseSchema) },
  { description: 'Every kind of work, and where it may be done' },
)
const Runs = Type.Object(
  {
    runs: Type.Array(RunRef, { description: 'Newest first' }),
    next: Type.Union([Type.String(), Type.Null()], { description: 'Pass it as `before`; null on the last page' }),
  },
  { description: 'A page of runs' },
)

/** A run as the API shows it. */
export type RunAnswer = Static<typeof RunSchema>

/** @throws LifeboatError `not-found` */
export function requireRun(runner: RunnerPort, id: string): Run {
  const run = runner.get(id)
  if (run === null) throw new LifeboatError('not-found', `there is no run ${id}`, { hint: 'see /api/runs' })
  return run
}

/** True once nothing about the run will change any more. */
export function hasEnded(run: Run): boolean {
  return run.finishedAt !== null
}

/** The jobs and their runs; cancelling one. */
export function runRoutes(app: App, { runner, leases }: HttpDependencies): void {
  const tags = ['runs']
  const security = [{ bearer: [] }]
  app.get(
    '/api/jobs',
    {
      config: { access: 'viewer' },
      schema: { tags, security, summary: 'List the jobs', response: { 200: Jobs, ...problems(401, 403) } },
    },
    async () => ({ jobs: runner.jobs().map(describe), leases: leases().map(describeLease) }),
  )
  app.get(
    '/api/runs',
    {
      config: { access: 'viewer' },
      schema: {
        tags,
        security,
        summary: 'List the runs',
        querystring: RunsQuery,
        response: { 200: Runs, ...problems(400, 401, 403) },
      },
    },
    async (request) => {
      const { limit, ...filter } = request.query
      // One more than asked for tells whether there is a next page.
      const runs = runner.list({ limit: limit + 1, ...filter })
      const page = runs.slice(0, limit)
      return { runs: page as RunAnswer[], next: runs.length > limit ? (page.at(-1)?.id ?? null) : null }
    },
  )
  app.get(
    '/api/runs/:id',
    {
      config: { access: 'viewer' },
      schema: {
        tags,
        security,
        summary: 'Show one run',
        params: RunParams,
        response: { 200: RunRef, ...problems(400, 401, 403, 404) },
      },
    },
    async (request) => requireRun(runner, request.params.id) as RunAnswer,
  )
  app.delete(
    '/api/runs/:id',
    {
      config: { access: 'operator' },
      schema: {
        tags: ['admin'],
        security,
        summary: 'Cancel a queued or running run',
        description: 'It is asked to stop, and ends soon after: follow its events to see it end.',
        params: RunParams,
        response: { 202: RunRef, ...problems(400, 401, 403, 404, 409) },
      },
    },
    async (request, reply) => {
      return reply.code(202).send(runner.cancel(request.params.id) as RunAnswer)
    },
  )
}

function describe(job: JobSummary): Static<typeof JobSchema> {
  const moment = (at: Date | null) => at?.toISOString() ?? null
  return {
    ...job,
    nextRunAt: moment(job.nextRunAt),
    lastStartAt: moment(job.lastStartAt),
    lastSuccessAt: moment(job.lastSuccessAt),
  }
}
