import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Artifact, backupId, type Manifest } from '../domain/backup.ts'
import { majorOf } from '../domain/chain.ts'
import { LifeboatError } from '../domain/errors.ts'
import { verifyDirectory } from '../physical/check-member.ts'
import { materialize } from '../physical/materialize.ts'
import { inDirectory, packTar, zstdArguments } from '../postgres/packed-tar.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { BackupWriter, ManifestBody, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { physicalInstructions } from './physical-instructions.ts'
import type { PhysicalPlan } from './physical-plan.ts'
import type { StoredBackup } from './physical-store.ts'
import { reserveBytes } from './room.ts'
import { freeBytes } from './work-folder.ts'

export interface ConsolidateOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly version: string
  readonly plan: PhysicalPlan
  /** The full one first; every repository holds it. */
  readonly chain: readonly Manifest[]
  /** The first one gets the backup. */
  readonly repositories: readonly [Repository, ...Repository[]]
  readonly context: JobContext
}

/** Where a chain was put together. */
interface Made {
  readonly dataDirectory: string
  /** By oid. */
  readonly tablespaces: ReadonlyMap<number, string>
  readonly folder: string
}

/**
 * Puts a chain together into a full backup under an id of its own, which begins and ends where the last one of the chain does,
 * and stores it in the first repository. Every artifact was compared with what was stored, every file of each member and of
 * the result with PostgreSQL's manifests. The chain stays: retention lets it go when nothing needs it any more.
 *
 * @throws LifeboatError as `materialize`; `disk-full` before anything is done
 */
export async function consolidate(options: ConsolidateOptions): Promise<StoredBackup> {
  const { plan, context, chain, clock } = options
  const started = clock.monotonic()
  const folder = join(plan.folder, 'consolidate')
  await assertRoom(options)
  await mkdir(folder, { mode: 0o700 })
  try {
    const made = await putTogether(options, folder)
    const id = backupId(clock.now(), 'full', randomBytes(3).toString('hex'))
    const [repository] = options.repositories
    const writer = await repository.beginBackup(id, { runId: context.runId, signal: context.signal })
    try {
      const artifacts = await storeAll(options, made, { id, writer })
      const manifest = manifestOf(options, id, (clock.monotonic() - started) / 1000)
      context.log.info({ backup: id, from: chain.map(({ backupId }) => backupId) }, 'a chain was put together')
      return { repository, writer, artifacts, manifest }
    } catch (error) {
      await writer.abandon()
      throw error
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** All members lie there unpacked, and beside them what is made of them. */
async function assertRoom({ plan, chain, config }: ConsolidateOptions): Promise<void> {
  const unpacked = chain.flatMap(({ artifacts }) => artifacts).reduce((sum, { plain }) => sum + plain.bytes, 0)
  const needed = unpacked + (lastOf(chain).physical?.sourceBytes ?? 0)
  const free = (await freeBytes(plan.folder)) - reserveBytes
  if (free >= needed) return
  throw new LifeboatError(
    'disk-full',
    `it takes ${needed} bytes in ${config.workDir}, and ${Math.max(0, free)} are free`,
    {
      hint: 'free some space, set workDir to a larger disk, or physical.chainLimit lower',
    },
  )
}

async function putTogether(options: ConsolidateOptions, folder: string): Promise<Made> {
  const { chain, repositories, plan, context, clock } = options
  const { signal } = context
  const oids = (lastOf(chain).physical?.tablespaces ?? []).map(({ oid }) => oid)
  const made = {
    folder,
    dataDirectory: join(folder, 'data'),
    tablespaces: new Map(oids.map((oid) => [oid, join(folder, String(oid))])),
  }
  await materialize({
    ...made,
    folder: join(folder, 'members'),
    chain: chain.map((manifest) => ({ manifest, repositories })),
    installation: plan.installation,
    ...{ owner: null, signal, clock, durable: 'never', verbatim: true },
    onProgress: (done, total, message) => context.progress({ done, total, unit: 'bytes', message }),
  })
  tell(context, 'checking what was put together')
  await verifyDirectory(made.dataDirectory, { installation: plan.installation, owner: null, env: plan.env, signal })
  return made
}

async function storeAll(
  options: ConsolidateOptions,
  made: Made,
  { id, writer }: { readonly id: string; readonly writer: BackupWriter },
): Promise<readonly Artifact[]> {
  const { chain, context } = options
  const { physical } = lastOf(chain)
  const artifacts: Artifact[] = []
  const archives = [
    { name: 'base.tar.zst', directory: made.dataDirectory },
    ...(physical?.tablespaces ?? []).map(({ oid, artifact }) => ({
      name: artifact,
      directory: made.tablespaces.get(oid) ?? '',
    })),
  ]
  for (const { name, directory } of archives) {
    tell(context, `storing ${name}`)
    artifacts.push(await storeArchive(options, writer, { name, directory, folder: join(made.folder, `${name}.fifos`) }))
  }
  artifacts.push(await writer.put('backup_manifest', createReadStream(join(made.dataDirectory, 'backup_manifest'))))
  const config = await copyConfig(options, writer)
  if (config !== null) artifacts.push(config)
  artifacts.push(await writer.put('RESTORE.md', instructions(options, id, artifacts)))
  return artifacts
}

async function storeArchive(
  { config, plan, context: { signal } }: ConsolidateOptions,
  writer: BackupWriter,
  { name, directory, folder }: { readonly name: string; readonly directory: string; readonly folder: string },
): Promise<Artifact> {
  const { compression } = config.physical
  const source = await archiveProgram(directory, plan.env)
  return packTar({ source, folder, env: plan.env, hasher: plan.hasher, compression, signal }, (packed, plain) =>
    writer.put(name, packed, plain),
  )
}

/** As pg_basebackup has it: the label first and the control file last; without links to tablespaces, which lie elsewhere here. */
async function archiveProgram(directory: string, env: Readonly<Record<string, string>>): Promise<ProgramOptions> {
  const rank = (name: string) => (name === 'backup_label' ? 0 : name === 'global' ? 2 : 1)
  const names = (await readdir(directory)).filter((name) => name !== 'backup_manifest')
  const links = await readdir(join(directory, 'pg_tblspc'), { withFileTypes: true }).catch(() => [])
  return {
    program: 'tar',
    args: [
      '--create',
      '--file=-',
      '--format=gnu',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--anchored',
      '--no-wildcards',
      ...links.filter((link) => link.isSymbolicLink()).map(({ name }) => `--exclude=pg_tblspc/${name}`),
      ...inDirectory(directory),
      '--',
      ...names.toSorted((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1)),
    ],
    env,
  }
}

/** Null where the last one of the chain has none. */
async function copyConfig(
  { chain, repositories, context: { signal } }: ConsolidateOptions,
  writer: BackupWriter,
): Promise<Artifact | null> {
  const last = lastOf(chain)
  const saved = last.artifacts.find(({ name }) => name === 'config.tar')
  if (saved === undefined) return null
  const copy = await writer.put(
    'config.tar',
    await repositories[0].readArtifact(last.backupId, 'config.tar', { signal }),
    async () => saved.plain,
  )
  if (copy.stored.sha256 === saved.stored.sha256) return copy
  throw new LifeboatError('artifact-invalid', `config.tar of ${last.backupId} does not hold the bytes that were stored`)
}

function instructions({ config, chain }: ConsolidateOptions, backupId: string, artifacts: readonly Artifact[]): Buffer {
  const { systemIdentifier, serverVersion, physical, stop, ...last } = lastOf(chain)
  const text = physicalInstructions({
    ...{ cluster: config.cluster, systemIdentifier, serverVersion, serverMajor: majorOf(last), stopTime: stop.time },
    wal: physical?.wal ?? [],
    segmentSize: physical?.segmentSize ?? 0,
    fromStandby: physical?.fromStandby ?? false,
    chain: [{ backupId, tablespaces: physical?.tablespaces ?? [], artifacts }],
  })
  return Buffer.from(text)
}

function manifestOf(
  { config, plan, chain, version }: ConsolidateOptions,
  id: string,
  durationSeconds: number,
): ManifestBody {
  const { artifacts: _, checksum: __, formatVersion: ___, physical, ...last } = lastOf(chain)
  if (physical === undefined) throw new Error('unreachable: it is a physical backup')
  const { basis: ____, ...facts } = physical
  return {
    ...last,
    ...{ backupId: id, type: 'full', parent: null, durationSeconds },
    physical: { ...facts, madeFrom: chain.map(({ backupId }) => backupId) },
    producer: {
      lifeboat: version,
      programs: { pg_combinebackup: plan.installation.version },
      options: [...zstdArguments(config.physical.compression)],
    },
  }
}

function lastOf(chain: readonly Manifest[]): Manifest {
  const last = chain.at(-1)
  if (last === undefined) throw new Error('unreachable: a chain has a backup')
  return last
}

function tell(context: JobContext, message: string): void {
  context.progress({ done: 0, total: null, unit: 'bytes', message })
}
