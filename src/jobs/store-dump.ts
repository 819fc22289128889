import type { Artifact, Manifest } from '../domain/backup.ts'
import type { ClusterFacts, DatabaseFacts } from '../postgres/cluster.ts'
import { dumpArguments } from '../postgres/dump.ts'
import { withBootstrapSuperuser } from '../postgres/globals.ts'
import type { Installation } from '../postgres/installations.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { letGo } from './destinations.ts'
import type { StagedDump } from './dump-database.ts'
import { packDirectory } from './pack.ts'
import { copyArtifacts } from './physical-copy.ts'
import { restoreInstructions } from './restore-instructions.ts'
import { sealing } from './seal.ts'

export interface StoreDumpOptions {
  readonly repository: Repository
  readonly id: string
  /** Name of the cluster. */
  readonly cluster: string
  readonly facts: ClusterFacts
  readonly database: DatabaseFacts
  readonly staged: StagedDump
  readonly installation: Installation
  readonly compression: string
  readonly jobs: number
  readonly env: Readonly<Record<string, string>>
  /** What encrypts; null: nothing is encrypted. */
  readonly encrypt: ProgramOptions | null
  /** Lifeboat's own version. */
  readonly version: string
  /** Must give the same for every repository: their manifests are equal. */
  readonly durationSeconds: () => number
}

/**
 * Stores a staged dump in one repository: the artifacts, then the manifest that makes a backup of them. Whatever fails,
 * nothing of it stays.
 */
export async function storeDump(
  options: StoreDumpOptions,
  { signal, runId }: Pick<JobContext, 'signal' | 'runId'>,
): Promise<Manifest> {
  const { repository, id, facts, database, staged, installation, env, encrypt } = options
  const inner = await repository.beginBackup(id, { runId, signal })
  const writer = sealing(inner, encrypt, signal)
  const putText = (name: string, text: string) => writer.put(name, Buffer.from(text))
  try {
    const artifacts: Artifact[] = [
      await packDirectory({ directory: staged.directory, env, signal }, (tar) => writer.put('dump.tar', tar)),
      ...(staged.fingerprint === null
        ? []
        : [await putText('fingerprint.json', `${JSON.stringify(staged.fingerprint, null, 1)}\n`)]),
      await writer.put('globals.sql', withBootstrapSuperuser(staged.globals, facts.bootstrapSuperuser)),
    ]
    const snapshotTime = staged.snapshot.at.toISOString()
    const sealed = await writer.seal({
      backupId: id,
      type: 'dump',
      cluster: options.cluster,
      systemIdentifier: facts.systemIdentifier,
      serverVersion: facts.serverVersion,
      serverVersionNum: facts.serverVersionNum,
      timeline: facts.timeline,
      start: { lsn: staged.snapshot.lsn, time: snapshotTime },
      stop: { lsn: staged.stop.lsn, time: staged.stop.at.toISOString() },
      parent: null,
      database: { name: database.name, oid: database.oid, sourceBytes: database.bytes },
      producer: {
        lifeboat: options.version,
        programs: { pg_dump: installation.version, pg_dumpall: installation.version },
        options: dumpArguments(options.jobs, options.compression),
      },
      warnings: staged.warnings,
      durationSeconds: options.durationSeconds(),
    })
    const instructions = restoreInstructions({
      backupId: id,
      cluster: options.cluster,
      database: database.name,
      serverVersion: facts.serverVersion,
      serverMajor: facts.serverMajor,
      clientMajor: installation.major,
      snapshotTime,
      bootstrapSuperuser: facts.bootstrapSuperuser,
      artifacts: [...artifacts, ...sealed.artifacts],
    })
    await writer.putOpen('RESTORE.md', Buffer.from(instructions))
    return await writer.publish(sealed.body)
  } catch (error) {
    await letGo(inner, error)
    throw error
  }
}

/**
 * Copies a backup into another repository. Encrypting the same once more gives other bytes, and every repository is to have
 * the same ones.
 */
export async function copyDump(
  from: { readonly repository: Repository; readonly manifest: Manifest },
  to: Repository,
  { signal, runId }: Pick<JobContext, 'signal' | 'runId'>,
): Promise<void> {
  const { artifacts, checksum: _, formatVersion: __, ...body } = from.manifest
  const writer = await to.beginBackup(body.backupId, { runId, signal })
  try {
    await copyArtifacts({ repository: from.repository, id: body.backupId }, artifacts, writer, signal)
    await writer.publish(body)
  } catch (error) {
    await letGo(writer, error)
    throw error
  }
}
