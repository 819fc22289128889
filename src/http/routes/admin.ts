import type { Static } from 'typebox'
import { parseTargetMoment } from '../../config/target-moment.ts'
import { LifeboatError, toFailure } from '../../domain/errors.ts'
import { targetTime } from '../../domain/recovery-plan.ts'
import { requireBackup } from '../backup-list.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies, HttpLimits } from '../ports.ts'
import { BackupBody, ExpireBody, ExpiryPreview, problems, RunRef, VerifyBody } from '../schemas.ts'
import type { RunAnswer } from './runs.ts'

/**
 * Starts work. The answer is 202 with the run at once; the same run queued or running gives 409 naming it. What a body
 * leaves out is written into the run's params, so that two ways of asking for the same are the same run.
 */
export function adminRoutes(app: App, deps: HttpDependencies, limits: HttpLimits): void {
  const { runner, catalog } = deps
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
      const { level = 'data', repository = null, backup = null, database = null, rehash = false, at } = request.body
      const now = catalog()
      requireBackup(now, repository, backup)
      const params = { level, repository, backup, database, rehash, ...momentIn(at, database, now.at) }
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
      // A dry run reads the WAL of the repositories.
      handlerTimeout: limits.repositoryTimeout,
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
      if (dryRun) return reply.code(200).send(await previewExpiry(deps, repository, request.signal))
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

/** Refused here rather than by the run. */
function momentIn(at: string | undefined, database: string | null, now: Date): { readonly at?: string } {
  if (at === undefined) return {}
  if (database !== null) throw new LifeboatError('usage-invalid', 'at and database exclude each other')
  if (at === 'latest') return { at }
  const { note: _, ...moment } = parseTargetMoment(at, now)
  return { at: targetTime(moment) }
}

async function previewExpiry(
  { catalog, retention, previewWal }: HttpDependencies,
  repository: string | null,
  signal: AbortSignal,
): Promise<Static<typeof ExpiryPreview>> {
  const now = catalog()
  const chosen = [...retention(now)].filter(([name]) => repository === null || name === repository)
  const repositories = chosen.map(async ([name, { decisions, removals, refusal }]) => {
    const go = removals.map(({ id }) => id)
    const base = {
      repository: name,
      blocked: refusal === null ? null : { ...refusal },
      stay: decisions.size - go.length,
      go,
    }
    if (refusal !== null) return { ...base, wal: null, walProblem: null }
    try {
      const wal = await previewWal(name, new Set(go), signal)
      return { ...base, wal: wal?.map((one) => ({ ...one, parts: [...one.parts] })) ?? null, walProblem: null }
    } catch (error) {
      signal.throwIfAborted()
      return { ...base, wal: null, walProblem: toFailure(error) }
    }
  })
  return { at: now.at.toISOString(), repositories: await Promise.all(repositories) }
}
