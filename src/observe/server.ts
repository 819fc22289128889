import type { ArchiverSample } from '../domain/archiver.ts'
import { sampleArchiver } from '../postgres/archiver.ts'
import { describeCluster, listDatabases, selectDatabases } from '../postgres/cluster.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'

export interface ServerProbeOptions extends ConnectionSource {
  readonly maintenanceDatabase: string
  /** Databases that the user wants backed up; null: all but templates. */
  readonly databases: readonly string[] | null
}

/** What one look at the server gave. */
export interface ServerFacts {
  readonly systemIdentifier: string
  readonly serverVersion: string
  /** Databases that must be backed up and exist. */
  readonly databases: readonly string[]
  /** Configured databases that do not exist. */
  readonly missingDatabases: readonly string[]
}

/** Looks at the server, in a session of its own: one that hangs is ended with the signal and takes nothing along. */
export function createServerProbe(options: ServerProbeOptions): (signal: AbortSignal) => Promise<ServerFacts> {
  return (signal) =>
    withSession(options, { database: options.maintenanceDatabase, signal }, async (session) => {
      const { systemIdentifier, serverVersion } = await describeCluster(session)
      const { selected, missing } = selectDatabases(await listDatabases(session), options.databases)
      return { systemIdentifier, serverVersion, databases: selected.map(({ name }) => name), missingDatabases: missing }
    })
}

/** Asks the server for its archiver, in a session of its own too. */
export function createArchiverProbe(
  options: ConnectionSource & { readonly maintenanceDatabase: string },
): (signal: AbortSignal) => Promise<ArchiverSample> {
  return (signal) => withSession(options, { database: options.maintenanceDatabase, signal }, sampleArchiver)
}
