import { type Static, Type } from 'typebox'
import { parseTargetMoment } from '../../config/target-moment.ts'
import { LifeboatError } from '../../domain/errors.ts'
import { parseLsn } from '../../domain/lsn.ts'
import type { RecoveryTarget } from '../../domain/recovery-plan.ts'
import { restoreParams } from '../../domain/restore-wish.ts'
import { requireBackup } from '../backup-list.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import { RecoveryQuery } from '../schema-recovery.ts'
import { problems, RunRef } from '../schemas.ts'
import type { RunAnswer } from './runs.ts'

const Path = Type.String({
  minLength: 2,
  maxLength: 4096,
  pattern: '^/',
  description: 'Absolute, on the host of Lifeboat',
})

const { at, lsn, name, timeline, systemIdentifier, repository, backup } = RecoveryQuery.properties

export const RestoreBody = Type.Object(
  {
    to: Path,
    ...{ at, lsn, name, timeline, systemIdentifier, repository, backup },
    latest: Type.Optional(Type.Literal(true)),
    immediate: Type.Optional(Type.Literal(true, { description: 'The end of a backup, and no WAL after it' })),
    tablespaceMap: Type.Optional(
      Type.Record(Type.String({ minLength: 1 }), Path, {
        description: 'Of each tablespace its old directory, or its oid, and a new directory',
      }),
    ),
    start: Type.Optional(
      Type.Boolean({ description: 'Start a server, lead it to the target and leave it running. Default: true' }),
    ),
    action: Type.Optional(
      Type.Enum(['promote', 'pause'], { description: 'At the target: take writes, or wait there. Default: promote' }),
    ),
    missingIsEnd: Type.Optional(
      Type.Boolean({ description: 'End before WAL that is missing, though there is more. For the latest moment only' }),
    ),
    osUser: Type.Optional(Type.String({ minLength: 1, maxLength: 64, description: 'Whose the files are to be' })),
  },
  {
    additionalProperties: false,
    description:
      'None of `at`, `lsn`, `name` and `immediate`: the latest moment. What can be had tells GET /api/recoverability',
  },
)

/** Restores the whole cluster into a directory of the host that Lifeboat runs on. */
export function restoreRoutes(app: App, { runner, catalog, clock }: HttpDependencies): void {
  app.post(
    '/api/admin/restore',
    {
      config: { access: 'admin' },
      schema: {
        tags: ['admin'],
        security: [{ bearer: [] }],
        summary: 'Restore the whole cluster, as of any moment, into a new directory',
        body: RestoreBody,
        response: {
          202: {
            description: 'Accepted; Location names the run',
            headers: { location: { type: 'string', description: '/api/runs/:id' } },
            content: { 'application/json': { schema: RunRef } },
          },
          ...problems(400, 401, 403, 404, 409, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { body, requestedBy } = request
      requireBackup(catalog(), body.repository ?? null, body.backup ?? null)
      const params = restoreParams({
        to: body.to,
        target: targetOf(body, clock.now()),
        timeline: body.timeline ?? null,
        backup: body.backup ?? null,
        repository: body.repository ?? null,
        systemIdentifier: body.systemIdentifier ?? null,
        tablespaces: Object.entries(body.tablespaceMap ?? {}),
        start: body.start ?? true,
        action: body.action ?? 'promote',
        missingIsEnd: body.missingIsEnd ?? false,
        osUser: body.osUser ?? null,
      })
      const run = runner.trigger({ job: 'restore', params, trigger: 'api', requestedBy })
      return reply
        .code(202)
        .header('location', `/api/runs/${run.id}`)
        .send(run as RunAnswer)
    },
  )
}

/** @throws LifeboatError `usage-invalid` when more than one is asked for, or a moment is none */
function targetOf({ at, lsn, name, immediate, latest }: Static<typeof RestoreBody>, now: Date): RecoveryTarget {
  if ([at, lsn, name, immediate, latest].filter((one) => one !== undefined).length > 1)
    throw new LifeboatError('usage-invalid', 'at, lsn, name, immediate and latest exclude one another', {
      hint: 'ask for one of them',
    })
  if (at !== undefined) {
    const { at: moment, micros } = parseTargetMoment(at, now)
    return { kind: 'time', at: moment, micros }
  }
  const place = lsn === undefined ? null : parseLsn(lsn)
  if (place !== null) return { kind: 'lsn', lsn: place }
  if (name !== undefined) return { kind: 'name', name }
  return { kind: immediate === undefined ? 'latest' : 'immediate' }
}
