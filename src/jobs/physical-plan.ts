import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { provenStage } from '../encryption/proven.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { type ClusterFacts, clockOffsetSeconds, describeCluster } from '../postgres/cluster.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { chooseClient, findInstallations, type Installation } from '../postgres/installations.ts'
import { chooseHasher, type Hasher } from '../postgres/packed-tar.ts'
import { type PhysicalServerFacts, physicalFacts } from '../postgres/physical-facts.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { type StagedConfig, stageConfig } from './config-artifact.ts'
import { dumpWarnings } from './dump-warnings.ts'
import { instead, lookAtStandby, type Standby, standbySource } from './physical-standby.ts'

/** What is known before a physical backup begins. */
export interface PhysicalPlan {
  /** Of the primary, as `facts` are. */
  readonly cluster: ClusterFacts
  readonly facts: PhysicalServerFacts
  /** What is read. */
  readonly source: ConnectionSource
  /** Null: the primary is read. */
  readonly standby: Standby | null
  /** Of the server that is read. */
  readonly tablespaces: PhysicalServerFacts['tablespaces']
  readonly summarizesWal: boolean
  /** Why it is not the standby, though one is configured. */
  readonly detours: readonly string[]
  readonly installation: Installation
  readonly hasher: Hasher
  /** What encrypts; null: nothing is encrypted. */
  readonly encrypt: ProgramOptions | null
  readonly env: Readonly<Record<string, string>>
  readonly savedConfig: StagedConfig
  /** Work folder of the run. */
  readonly folder: string
  /** What time it is by the primary's clock, if nobody has set that since; however ours was set. */
  readonly serverNow: () => Date
  readonly warnings: readonly string[]
}

/** The ways out where the server cannot make incremental backups. */
export const incrementalHint =
  'upgrade to PostgreSQL 17 or newer, or rely on the WAL archive, which is incremental by nature: archive_timeout makes the server finish its segments in time, and schedule.full how much WAL a restore replays'

/**
 * Looks at the server, and at the standby where one is configured. Everything that can be refused is refused here, before
 * anything is started.
 *
 * @param standbyFailure what the standby has failed with: the primary is read
 * @throws LifeboatError `config-invalid` for an incremental backup of a server that cannot make one
 */
export async function planPhysical(
  { config, clock, repositories }: { config: ValidatedConfig; clock: Clock; repositories: readonly Repository[] },
  type: 'full' | 'incremental',
  { signal, log }: Pick<JobContext, 'signal' | 'log'>,
  { folder, standbyFailure = null }: { readonly folder: string; readonly standbyFailure?: unknown },
): Promise<PhysicalPlan> {
  const { postgres, physical } = config
  const looked = await withSession(postgres, { database: postgres.maintenanceDatabase, signal }, async (session) => {
    const cluster = await describeCluster(session)
    if (type === 'incremental' && cluster.serverMajor < 17) {
      const words = `PostgreSQL ${cluster.serverMajor} has no incremental backups`
      throw new LifeboatError('config-invalid', words, { hint: incrementalHint })
    }
    if (cluster.inRecovery) {
      throw new LifeboatError('config-invalid', 'the server of postgres.host is a standby', {
        hint: 'set postgres.host to the primary, and physical.standby to the standby: a backup of it needs both',
      })
    }
    const facts = await physicalFacts(session)
    const planned = clock.monotonic()
    const offset = await clockOffsetSeconds(session, () => clock.now())
    const { standby, failure } = await chooseStandby()
    const directory = join(folder, 'config')
    // In the data directory of a standby is its own configuration, not the primary's.
    const about = { source: postgres, directory, isAll: standby !== null }
    const savedConfig = await stageConfig(session, facts, about)
    return { cluster, facts, planned, offset, savedConfig, standby, failure }

    async function chooseStandby(): Promise<{ readonly standby: Standby | null; readonly failure: unknown }> {
      const source = standbySource(config)
      if (source === null || standbyFailure !== null) return { standby: null, failure: standbyFailure }
      try {
        const { systemIdentifier, inRecovery } = cluster
        const { timeline, fullPageWrites } = facts
        const primary = { systemIdentifier, inRecovery, timeline, fullPageWrites }
        return { standby: await lookAtStandby(config, source, primary, signal), failure: null }
      } catch (error) {
        signal.throwIfAborted()
        if (physical.standby?.required === true) throw error
        return { standby: null, failure: error }
      }
    }
  })
  const { cluster, facts, planned, offset, savedConfig, standby, failure } = looked
  if (standby === null) assertSendsWal(facts)
  const detours = failure === null ? [] : [instead(failure)]
  for (const words of detours) log.warn({ failure: toFailure(failure) }, words)
  const { systemIdentifier, serverMajor } = cluster
  const warnings = await dumpWarnings({ repositories, systemIdentifier, clockOffsetSeconds: offset, signal, log })
  return {
    ...{ cluster, facts, savedConfig, folder, standby, detours },
    source: standby?.source ?? postgres,
    tablespaces: (standby?.facts ?? facts).tablespaces,
    summarizesWal: (standby?.facts ?? facts).summarizesWal,
    installation: chooseClient(await findInstallations(postgres.binDir), serverMajor),
    hasher: await chooseHasher(signal),
    encrypt: await provenStage(config.encryption, signal),
    env: await clientEnvironment({ source: postgres, serverMajor, workFolder: folder }),
    serverNow: () => new Date(facts.at.getTime() + (clock.monotonic() - planned)),
    warnings: [...warnings, ...savedConfig.warnings],
  }
}

/** pg_basebackup would be told so only after it has waited for a checkpoint, or not be let in without a word on why. */
function assertSendsWal({ walLevel, maxWalSenders }: PhysicalServerFacts): void {
  const restart = 'as a superuser, then restart the server'
  if (walLevel === 'minimal')
    throw new LifeboatError('server-error', 'wal_level is minimal: no physical backup can be taken', {
      hint: `ALTER SYSTEM SET wal_level = replica, ${restart}`,
    })
  if (maxWalSenders === 0)
    throw new LifeboatError('server-error', 'max_wal_senders is 0: no physical backup can be taken', {
      hint: `ALTER SYSTEM SET max_wal_senders = 10, ${restart}`,
    })
}
