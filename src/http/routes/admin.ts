import type { Static } from 'typebox'
import { LifeboatError } from '../../domain/errors.ts'
import type { Catalog } from '../../observe/catalog.ts'
import type { RetentionPlans } from '../../observe/retention.ts'
import { requireBackup } from '../backup-list.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import { BackupBody, ExpireBody, ExpiryPreview, problems, RunRef, VerifyBody } from '../schemas.ts'
import type { RunAnswer } from './runs.ts'

/**
 * Starts work. The answer is 202 with the run at once; the same run queued or running gives 409 naming it. What a body
 * leaves out is written into the run's params, so that two ways of asking for the same are the same run.
 */
export function adminRoutes(app: App, { runner, catalog, retention }: HttpDependencies): void {
  const tags = ['admin']
  const security = [{ bearer: [] }]
  const accepted = {
    description: 'Accepted; Location names the run',
    headers: { location: { type: 'string', description: '/api/runs/:id' } },
    content: { 'application/json': { schema: RunRef } },
  }
  app.post(
    '/api/admin/backup',
    {
      config: { access: 'operator' },
      schema: {
        tags,
        security,
        summary: 'Take a backup',
        body: BackupBody,
        response: { 202: accepted, ...problems(400, 401, 403, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { type = 'dump', database = null } = request.body
      if (type !== 'dump' && database !== null) {
        throw new LifeboatError('usage-invalid', `a ${type} backup is of the whole cluster, not of one database`, {
          hint: 'leave database out, or say dump',
        })
      }
      const { requestedBy } = request
      const params = type === 'dump' ? { database } : {}
      const run = runner.trigger({ job: type, params, trigger: 'api', requestedBy })
      return reply
        .code(202)
        .header('location', `/api/runs/${run.id}`)
        .send(run as RunAnswer)
    },
  )
  app.post(
    '/api/admin/verify',
    {
      config: { access: 'operator' },
      schema: {
        tags,
        security,
        summary: 'Verify backups, up to a real restore',
        body: VerifyBody,
        response: { 202: accepted, ...problems(400, 401, 403, 404, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { level = 'data', repository = null, backup = null, database = null, rehash = false } = request.body
      requireBackup(catalog(), repository, backup)
      const params = { level, repository, backup, database, rehash }
      const run = runner.trigger({ job: 'verify', params, trigger: 'api', requestedBy: request.requestedBy })
      return reply
        .code(202)
        .header('location', `/api/runs/${run.id}`)
        .send(run as RunAnswer)
    },
  )
  app.post(
    '/api/admin/expire',
    {
      config: { access: 'admin' },
      schema: {
        tags,
        security,
        summary: 'Remove the backups that the retention policy lets go',
        body: ExpireBody,
        response: { 200: ExpiryPreview, 202: accepted, ...problems(400, 401, 403, 404, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { repository = null, dryRun = false } = request.body
      const now = catalog()
      requireBackup(now, repository, null)
      if (dryRun) return reply.code(200).send(previewExpiry(now, retention(now), repository))
      // Only on the machine itself can somebody say that its clock is right.
      const params = { repository, confirmClock: false }
      const run = runner.trigger({ job: 'expire', params, trigger: 'api', requestedBy: request.requestedBy })
      return reply
        .code(202)
        .header('location', `/api/runs/${run.id}`)
        .send(run as RunAnswer)
    },
  )
}

function previewExpiry(
  { at }: Catalog,
  plans: RetentionPlans,
  repository: string | null,
): Static<typeof ExpiryPreview> {
  const chosen = [...plans].filter(([name]) => repository === null || name === repository)
  return {
    at: at.toISOString(),
    repositories: chosen.map(([name, { decisions, removals, refusal }]) => ({
      repository: name,
      blocked: refusal === null ? null : { ...refusal },
      stay: decisions.size - removals.length,
      go: removals.map(({ id }) => id),
    })),
  }
}
