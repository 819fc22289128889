import { type Static, Type } from 'typebox'
import { LifeboatError } from '../../domain/errors.ts'
import { formatLsn, parseLsn } from '../../domain/lsn.ts'
import type { RecoveryPlan, RecoveryTarget } from '../../domain/recovery-plan.ts'
import type { RecoveryAnswer } from '../../observe/recovery.ts'
import { reportWindows } from '../../observe/wal-report.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import { FailureSchema, moment, orNull } from '../schema-parts.ts'
import { Windows } from '../schema-wal.ts'
import { BackupId, problems, RepositoryName } from '../schemas.ts'

const Query = Type.Object(
  {
    at: Type.Optional(Type.String({ format: 'date-time', description: 'A moment, with its zone' })),
    lsn: Type.Optional(
      Type.String({ pattern: '^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$', description: 'A place in the WAL' }),
    ),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 63, description: 'Of a restore point' })),
    timeline: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1, description: "Default: the server's" })),
    repository: Type.Optional(RepositoryName),
    backup: Type.Optional(BackupId),
  },
  { additionalProperties: false, description: 'None of `at`, `lsn` and `name`: the latest moment' },
)

const Plan = Type.Object(
  {
    chain: Type.Array(Type.String(), { description: 'The full backup first, then the incrementals on it' }),
    timeline: Type.Integer(),
    from: Type.String({ description: 'Where the WAL that is replayed begins' }),
    to: Type.String({ description: 'Where it ends at the latest' }),
    segments: Type.Integer(),
    backupBytes: Type.Number({ description: 'As stored' }),
  },
  { description: 'How it would be restored' },
)

const Recoverability = Type.Object(
  {
    at: moment('When all this was known'),
    repositories: Type.Array(
      Type.Object({
        repository: Type.String(),
        windows: Windows,
        recoverable: Type.Boolean(),
        plan: orNull(Plan),
        refused: orNull(FailureSchema),
      }),
    ),
  },
  { description: 'Whether a moment can be restored from physical backups and WAL, how, and what else could be' },
)

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
        querystring: Query,
        response: { 200: Recoverability, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { timeline = null, repository = null, backup = null } = request.query
      const catalog = deps.catalog()
      const question = { target: targetOf(request.query), timeline, repository, backup }
      const answers = deps.planRecoveries(catalog, question)
      const judged = new Map(catalog.wal?.repositories.map((one) => [one.repository, one]))
      const segmentSize = catalog.wal?.clock?.segmentSize ?? null
      return {
        at: catalog.at.toISOString(),
        repositories: answers.map((answer) => ({
          ...describe(answer),
          windows:
            segmentSize === null ? [] : [...reportWindows(judged.get(answer.repository)?.windows ?? [], segmentSize)],
        })),
      }
    },
  )
}

/** @throws LifeboatError `usage-invalid` when more than one is asked for */
function targetOf({ at, lsn, name }: Static<typeof Query>): RecoveryTarget {
  const place = lsn === undefined ? null : parseLsn(lsn)
  const targets: RecoveryTarget[] = [
    ...(at === undefined ? [] : [{ kind: 'time' as const, at: new Date(at) }]),
    ...(place === null ? [] : [{ kind: 'lsn' as const, lsn: place }]),
    ...(name === undefined ? [] : [{ kind: 'name' as const, name }]),
  ]
  const [first, second] = targets
  if (second !== undefined)
    throw new LifeboatError('usage-invalid', 'at, lsn and name exclude one another', { hint: 'ask for one of them' })
  return first ?? { kind: 'latest' }
}

function describe({ repository, plan, refused }: RecoveryAnswer) {
  return { repository, recoverable: plan !== null, plan: plan === null ? null : planOf(plan), refused }
}

function planOf({ chain, timeline, from, to, segments, backupBytes }: RecoveryPlan): Static<typeof Plan> {
  return {
    ...{ timeline, segments, backupBytes },
    chain: chain.map(({ id }) => id),
    from: formatLsn(from.lsn),
    to: formatLsn(to.lsn),
  }
}
