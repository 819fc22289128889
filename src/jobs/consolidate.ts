import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Artifact, backupId, findArtifact, type Manifest } from '../domain/backup.ts'
import { majorOf } from '../domain/chain.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { verifyDirectory } from '../physical/check-member.ts'
import { ArtifactFetcher } from '../physical/fetch-artifact.ts'
import { materialize } from '../physical/materialize.ts'
import { inDirectory, packTar, zstdArguments } from '../postgres/packed-tar.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { ManifestBody, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { keepManifest } from './kept-manifests.ts'
import { physicalInstructions } from './physical-instructions.ts'
import type { PhysicalPlan } from './physical-plan.ts'
import type { StoredBackup } from './physical-store.ts'
import { reserveBytes } from './room.ts'
import { type SealingWriter, sealing } from './seal.ts'
import { unseal } from './unseal.ts'
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
export async function consolidate(asked: ConsolidateOptions): Promise<StoredBackup> {
  const options = await opened(asked)
  const { plan, context, clock } = options
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
      const sealed = sealing(writer, plan.encrypt, context.signal)
      const seconds = () => (clock.monotonic() - started) / 1000
      const { artifacts, manifest } = await storeAll(options, made, { id, writer: sealed, seconds })
      const from = options.chain.map(({ backupId }) => backupId)
      context.log.info({ backup: id, from }, 'a chain was put together')
      return { repository, writer, artifacts, manifest }
    } catch (error) {
      await writer.abandon()
      throw error
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** With what the manifest of the last one keeps to itself: the new one takes it over. */
async function opened(options: ConsolidateOptions): Promise<ConsolidateOptions> {
  const { chain, config, repositories, context } = options
  const last = await unseal(config.encryption, lastOf(chain), { repositories, signal: context.signal })
  return { ...options, chain: [...chain.slice(0, -1), last] }
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
    encryption: options.config.encryption,
    onProgress: (done, total, message) => context.progress({ done, total, unit: 'bytes', message }),
  })
  tell(context, 'checking what was put together')
  await verifyDirectory(made.dataDirectory, { installation: plan.installation, owner: null, env: plan.env, signal })
  return made
}

async function storeAll(
  options: ConsolidateOptions,
  made: Made,
  { id, writer, seconds }: { readonly id: string; readonly writer: SealingWriter; readonly seconds: () => number },
): Promise<Pick<StoredBackup, 'artifacts' | 'manifest'>> {
  const { chain, config, context } = options
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
  const listing = join(made.dataDirectory, 'backup_manifest')
  if (writer.encrypt !== null)
    await keepManifest(config.stateDir, id, listing).catch((error: unknown) => context.log.warn(toFailure(error)))
  artifacts.push(await writer.put('backup_manifest', createReadStream(listing)))
  const saved = await copyConfig(options, made, writer)
  if (saved !== null) artifacts.push(saved)
  const sealed = await writer.seal(manifestOf(options, id, seconds()))
  artifacts.push(...sealed.artifacts)
  artifacts.push(await writer.putOpen('RESTORE.md', instructions(options, id, artifacts)))
  return { artifacts, manifest: sealed.body }
}

async function storeArchive(
  { config, plan, context: { signal } }: ConsolidateOptions,
  writer: SealingWriter,
  { name, directory, folder }: { readonly name: string; readonly directory: string; readonly folder: string },
): Promise<Artifact> {
  const { compression } = config.physical
  const source = await archiveProgram(directory, plan.env)
  const { env, hasher } = plan
  const { encrypt } = writer
  return packTar({ source, folder, env, hasher, compression, encrypt, signal }, (packed, plain) =>
    writer.putSealed(name, packed, plain),
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

/** Null where the last one of the chain has none. It is encrypted anew, for whom backups are encrypted now. */
async function copyConfig(
  { chain, repositories, config, plan, clock, context: { signal } }: ConsolidateOptions,
  { folder }: Made,
  writer: SealingWriter,
): Promise<Artifact | null> {
  const manifest = lastOf(chain)
  if (findArtifact(manifest, 'config.tar') === undefined) return null
  const path = join(folder, 'config.tar')
  const { env } = plan
  const { encryption } = config
  const fetcher = new ArtifactFetcher({ folder, owner: null, env, clock, encryption, onBytes: () => {} })
  await fetcher.read({ manifest, repositories }, 'config.tar', path, signal)
  return writer.put('config.tar', createReadStream(path))
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
