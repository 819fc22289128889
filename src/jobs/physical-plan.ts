import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { type ClusterFacts, clockOffsetSeconds, describeCluster } from '../postgres/cluster.ts'
import { withSession } from '../postgres/connection.ts'
import { chooseClient, findInstallations, type Installation } from '../postgres/installations.ts'
import { chooseHasher, type Hasher } from '../postgres/packed-tar.ts'
import { type PhysicalServerFacts, physicalFacts } from '../postgres/physical-facts.ts'
import type { Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { type StagedConfig, stageConfig } from './config-artifact.ts'
import { dumpWarnings } from './dump-warnings.ts'

/** What is known before a physical backup begins. */
export interface PhysicalPlan {
  readonly cluster: ClusterFacts
  readonly facts: PhysicalServerFacts
  readonly installation: Installation
  readonly hasher: Hasher
  readonly env: Readonly<Record<string, string>>
  readonly savedConfig: StagedConfig
  /** Work folder of the run. */
  readonly folder: string
  /** What time it is by the server's clock. */
  readonly serverNow: () => Date
  readonly warnings: readonly string[]
}

/** The ways out where the server cannot make incremental backups. */
export const incrementalHint =
  'upgrade to PostgreSQL 17 or newer, or rely on the WAL archive, which is incremental by nature: archive_timeout makes the server finish its segments in time, and schedule.full how much WAL a restore replays'

/**
 * Looks at the server. Everything that can be refused is refused here, before anything is started.
 *
 * @throws LifeboatError `config-invalid` for an incremental backup of a server that cannot make one
 */
export async function planPhysical(
  { config, clock, repositories }: { config: ValidatedConfig; clock: Clock; repositories: readonly Repository[] },
  type: 'full' | 'incremental',
  { signal, log }: Pick<JobContext, 'signal' | 'log'>,
  folder: string,
): Promise<PhysicalPlan> {
  const { postgres } = config
  const looked = await withSession(postgres, { database: postgres.maintenanceDatabase, signal }, async (session) => {
    const cluster = await describeCluster(session)
    if (type === 'incremental' && cluster.serverMajor < 17) {
      const words = `PostgreSQL ${cluster.serverMajor} has no incremental backups`
      throw new LifeboatError('config-invalid', words, { hint: incrementalHint })
    }
    if (cluster.inRecovery) {
      throw new LifeboatError('config-invalid', 'the server is a standby, of which physical backups are not taken', {
        hint: 'set postgres.host to the primary',
      })
    }
    const facts = await physicalFacts(session)
    const offset = await clockOffsetSeconds(session, () => clock.now())
    const directory = join(folder, 'config')
    return { cluster, facts, offset, savedConfig: await stageConfig(session, facts, { source: postgres, directory }) }
  })
  const { cluster, facts, offset, savedConfig } = looked
  const { systemIdentifier, serverMajor } = cluster
  const warnings = await dumpWarnings({ repositories, systemIdentifier, clockOffsetSeconds: offset, signal, log })
  return {
    ...{ cluster, facts, savedConfig, folder },
    installation: chooseClient(await findInstallations(postgres.binDir), serverMajor),
    hasher: await chooseHasher(signal),
    env: await clientEnvironment({ source: postgres, serverMajor, workFolder: folder }),
    serverNow: () => new Date(clock.now().getTime() + offset * 1000),
    warnings: [...warnings, ...savedConfig.warnings],
  }
}
