import type { Static } from 'typebox'
import { reportWal } from '../../observe/wal-report.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import type { WalReportSchema } from '../schema-wal.ts'
import { problems, WalReportRef } from '../schemas.ts'

/** The WAL, from memory. */
export function walRoutes(app: App, deps: HttpDependencies): void {
  app.get(
    '/api/wal',
    {
      config: { access: 'viewer' },
      schema: {
        tags: ['wal'],
        security: [{ bearer: [] }],
        summary: 'Tell what WAL is where, what is missing, and what would be lost right now',
        response: { 200: WalReportRef, ...problems(401, 403, 503) },
      },
    },
    async () => {
      const { wal, archiver, at } = deps.catalog()
      return reportWal(wal, archiver, at, deps.walWork()) as Static<typeof WalReportSchema>
    },
  )
}
