import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ConnectionSource, neutralSettingsFor, settingsOption } from './connection.ts'
import { passfileLine } from './conninfo.ts'
import { workMarker } from './orphans.ts'

export interface ClientEnvironmentOptions {
  readonly source: ConnectionSource
  readonly serverMajor: number
  /** Holds the password file; the programs carry its name, for the clean-up after a kill. */
  readonly workFolder: string
  readonly settings?: Readonly<Record<string, string>>
}

/**
 * The environment that a libpq program needs to connect as `source` does. The password travels in a file (0600) in the
 * work folder, never in an argument; without one the file is empty, so that no other password file is read.
 * Source: https://www.postgresql.org/docs/current/libpq-envars.html
 */
export async function clientEnvironment({
  source,
  serverMajor,
  workFolder,
  settings,
}: ClientEnvironmentOptions): Promise<Record<string, string>> {
  const passfile = join(workFolder, 'pgpass')
  const password = await source.password?.()
  await writeFile(passfile, password === undefined ? '' : passfileLine(password), { mode: 0o600 })
  return {
    PGPASSFILE: passfile,
    PGAPPNAME: 'lifeboat',
    PGCONNECT_TIMEOUT: String(Math.max(2, Math.ceil(source.connectTimeoutMs / 1000))),
    PGSSLMODE: source.sslMode,
    ...(source.sslRootCert === null ? {} : { PGSSLROOTCERT: source.sslRootCert }),
    PGOPTIONS: settingsOption({ ...neutralSettingsFor(serverMajor), ...settings }),
    [workMarker]: workFolder,
  }
}
