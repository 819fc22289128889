import { describeCluster, listDatabases, selectDatabases } from '../postgres/cluster.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import type { ServerState } from './catalog.ts'

export interface ServerProbeOptions extends ConnectionSource {
  readonly maintenanceDatabase: string
  /** Databases that the user wants backed up; null: all but templates. */
  readonly databases: readonly string[] | null
}

/** Looks at the server, in a session of its own: one that hangs is ended with the signal and takes nothing along. */
export function createServerProbe(options: ServerProbeOptions): (signal: AbortSignal) => Promise<ServerState> {
  return (signal) =>
    withSession(options, { database: options.maintenanceDatabase, signal }, async (session) => {
      const { systemIdentifier, serverVersion, serverVersionNum, startedAt, inRecovery } =
        await describeCluster(session)
      const { selected, missing } = selectDatabases(await listDatabases(session), options.databases)
      return {
        systemIdentifier,
        serverVersion,
        serverVersionNum,
        startedAt,
        inRecovery,
        databases: selected.map(({ name }) => name),
        missingDatabases: missing,
      }
    })
}
