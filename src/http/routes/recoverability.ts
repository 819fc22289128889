import type { Static } from 'typebox'
import { parseTargetMoment } from '../../config/target-moment.ts'
import { LifeboatError } from '../../domain/errors.ts'
import { parseLsn } from '../../domain/lsn.ts'
import type { RecoveryTarget } from '../../domain/recovery-plan.ts'
import { reportRecovery, reportTarget } from '../../observe/recovery-report.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import { RecoverabilitySchema, RecoveryQuery } from '../schema-recovery.ts'
import { problems } from '../schemas.ts'

/** From memory: what was asked for is planned by what the last looks saw. */
export function recoverabilityRoutes(app: App, deps: HttpDependencies): void {
  app.get(
    '/api/recoverability',
    {
      config: { access: 'viewer' },
      schema: {
        tags: ['wal'],
        security: [{ bearer: [] }],
        summary: 'Tell whether a moment can be restored, how, and which moments can',
        querystring: RecoveryQuery,
        response: { 200: RecoverabilitySchema, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { timeline = null, repository = null, backup = null, systemIdentifier = null } = request.query
      const catalog = deps.catalog()
      const { target, note } = targetOf(request.query, deps.clock.now())
      const question = { target, timeline, repository, backup, systemIdentifier }
      return {
        at: catalog.at.toISOString(),
        target: reportTarget(target, note),
        repositories: deps.planRecoveries(catalog, question).map(reportRecovery),
      }
    },
  )
}

/** @throws LifeboatError `usage-invalid` when more than one is asked for, or a moment is none */
function targetOf(
  { at, lsn, name }: Static<typeof RecoveryQuery>,
  now: Date,
): { readonly target: RecoveryTarget; readonly note: string | null } {
  if ([at, lsn, name].filter((one) => one !== undefined).length > 1)
    throw new LifeboatError('usage-invalid', 'at, lsn and name exclude one another', { hint: 'ask for one of them' })
  if (at !== undefined) {
    const { note, ...moment } = parseTargetMoment(at, now)
    return { target: { kind: 'time', ...moment }, note }
  }
  const place = lsn === undefined ? null : parseLsn(lsn)
  if (place !== null) return { target: { kind: 'lsn', lsn: place }, note: null }
  return { target: name === undefined ? { kind: 'latest' } : { kind: 'name', name }, note: null }
}
