import { type Static, Type } from 'typebox'
import type { Catalog } from '../../observe/catalog.ts'
import type { ExternalDetails } from '../../observe/external-catalog.ts'
import type { Growth } from '../../observe/growth.ts'
import { isClockAhead } from '../../observe/questions.ts'
import type { RetentionPlans } from '../../observe/retention.ts'
import { type ListedBackup, type Listing, pageOfBackups, requireBackup, unusableBackups } from '../backup-list.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies, HttpLimits } from '../ports.ts'
import { verificationOf } from '../recoverability.ts'
import { FailureSchema } from '../schema-parts.ts'
import {
  BackupParams,
  BackupQuery,
  BackupRef,
  type BackupSchema,
  BackupsQuery,
  problems,
  UnusableRef,
} from '../schemas.ts'

const Backups = Type.Object(
  {
    at: Type.String({ format: 'date-time', description: 'When the repositories were looked at' }),
    backups: Type.Array(BackupRef, { description: 'Newest first' }),
    unusable: Type.Array(UnusableRef, { description: 'On the first page only, at most `limit`' }),
    unusableTotal: Type.Integer(),
    next: Type.Union([Type.String(), Type.Null()], { description: 'Pass it as `after`; null on the last page' }),
  },
  { description: 'A page of backups' },
)

const Details = Type.Object(
  {
    id: Type.String(),
    copies: Type.Array(
      Type.Object({
        repository: Type.String(),
        manifest: Type.Union([
          Type.Unsafe<object>({ type: 'object', description: 'manifest.json as it is' }),
          Type.Null({ description: 'It cannot be read: see `problems`; files of other tools have none' }),
        ]),
        proofs: Type.Array(Type.Unsafe<object>({ type: 'object', description: 'A proof as it is' })),
        problems: Type.Array(FailureSchema, { description: 'Why something of this copy cannot be read' }),
      }),
    ),
  },
  { description: 'The backup in every repository that holds it' },
)

/** The inventory, from memory, and the details of one backup, from its repositories. */
export function backupRoutes(app: App, deps: HttpDependencies, listing: Listing, limits: HttpLimits): void {
  const tags = ['backups']
  const security = [{ bearer: [] }]
  app.get(
    '/api/backups',
    {
      config: { access: 'viewer' },
      schema: {
        tags,
        security,
        summary: 'List the backups',
        querystring: BackupsQuery,
        response: { 200: Backups, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { limit, after, ...filter } = request.query
      const catalog = deps.catalog()
      const plans = deps.retention(catalog)
      requireBackup(catalog, filter.repository ?? null, null)
      const { page, next } = pageOfBackups(listing(catalog), filter, limit, after)
      const unusable = unusableBackups(catalog, filter)
      return {
        at: catalog.at.toISOString(),
        backups: page.map((listed) => describe(listed, catalog, plans, deps.growth)),
        unusable: after === undefined ? unusable.slice(0, limit) : [],
        unusableTotal: unusable.length,
        next,
      }
    },
  )
  app.get(
    '/api/backups/:id',
    {
      config: { access: 'viewer' },
      // The one answer that is not made from memory.
      handlerTimeout: limits.repositoryTimeout,
      schema: {
        tags,
        security,
        summary: 'Read the manifest and the proofs of one backup',
        params: BackupParams,
        querystring: BackupQuery,
        response: { 200: Details, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { id } = request.params
      const repository = request.query.repository ?? null
      requireBackup(deps.catalog(), repository, null)
      return { id, copies: [...(await deps.backupDetails(id, repository, request.signal))] } as Static<typeof Details>
    },
  )
}

function describe(
  { backup, repository }: ListedBackup,
  catalog: Catalog,
  plans: RetentionPlans,
  growth: Pick<Growth, 'of'>,
): Static<typeof BackupSchema> {
  const decision = plans.get(repository.name)?.decisions.get(backup.id)
  const { standing, provenAt, levels } = verificationOf(backup, repository)
  const details = catalog.watches.find(({ name }) => name === repository.name)?.details(backup.id) ?? null
  const level = (result: (typeof levels)['data']) =>
    result === undefined ? null : { ...result, finishedAt: result.finishedAt.toISOString() }
  return {
    repository: repository.name,
    id: backup.id,
    type: backup.type,
    database: backup.database === '' ? null : backup.database,
    systemIdentifier: backup.systemIdentifier,
    serverVersion: backup.serverVersion,
    startedAt: backup.startedAt.toISOString(),
    finishedAt: backup.finishedAt.toISOString(),
    consistentAt: backup.consistentAt.toISOString(),
    durationSeconds: backup.durationSeconds,
    storedBytes: backup.storedBytes,
    encrypted: backup.isEncrypted,
    sourceBytes: backup.sourceBytes,
    warnings: backup.warnings,
    notes: [...(isClockAhead(catalog, backup) ? ['clock-ahead' as const] : []), ...(details?.notes ?? [])],
    file: details === null ? null : fileOf(details),
    manifestChecksum: backup.manifestChecksum,
    verification: { artifact: level(levels.artifact), restore: level(levels.restore), data: level(levels.data) },
    standing,
    proven: standing === 'proven',
    provenAt: provenAt?.toISOString() ?? null,
    retention: {
      keep: decision?.keep ?? true,
      reasons: [...(decision?.reasons ?? ['forever' as const])],
      until: decision?.until?.toISOString() ?? null,
    },
    held: decision?.reasons.includes('held') ?? false,
    deviation: deviationOf(growth.of(repository.name, backup.id)),
  }
}

function deviationOf(found: ReturnType<Growth['of']>): Static<typeof BackupSchema>['deviation'] {
  if (found === null) return null
  const { deviation, report, isUnusual } = found
  const { ratio, sourceRatio, storedBytes, backups, sameWeekday } = deviation.size
  return {
    ratio,
    baselineBytes: storedBytes,
    baselineOf: backups.length,
    sameWeekday,
    unusual: isUnusual ?? false,
    sourceRatio,
    comparedWith: deviation.usual.id,
    rowsRatio: report?.rowsRatio ?? null,
    tables: report === null ? null : [...report.tables],
  }
}

function fileOf({ file: name, state, detail, format, compression }: ExternalDetails) {
  return { name, state, detail, format, compression }
}
