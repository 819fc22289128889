import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Artifact, PhysicalFacts, WalInterval } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { readBackupManifest } from '../postgres/backup-manifest.ts'
import {
  BaseBackupLines,
  type BaseBackupNews,
  baseBackupFailure,
  baseBackupProgram,
  isCompressionRefused,
  isDiskTrouble,
  isTablespaceRefused,
} from '../postgres/base-backup.ts'
import { withCause } from '../postgres/failures.ts'
import { packTar, sha256Of } from '../postgres/packed-tar.ts'
import { runProgram } from '../postgres/programs.ts'
import { packDirectory } from './pack.ts'
import type { PhysicalPlan } from './physical-plan.ts'
import type { SealingWriter } from './seal.ts'
import { keepSyncing, syncFile } from './sync-files.ts'
import { diskFailure } from './work-folder.ts'

/** A writer that marks what its repository fails with. */
export interface BlamingWriter extends SealingWriter {
  blame(error: unknown): never
}

export interface TakeOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly plan: PhysicalPlan
  readonly id: string
  readonly writer: BlamingWriter
  /** Path of the parent's backup_manifest; null: a full backup. */
  readonly parentManifest: string | null
  /** For what is staged; made and emptied here. */
  readonly folder: string
  readonly news: BaseBackupNews
  /** Gets the path of the backup_manifest, which is removed thereafter. */
  readonly onManifest: (path: string) => Promise<void>
  readonly signal: AbortSignal
}

/** What one reading of the cluster gave; all of it is in the repository of the writer. */
export interface TakenBackup {
  readonly artifacts: readonly Artifact[]
  readonly wal: readonly WalInterval[]
  readonly tablespaces: PhysicalFacts['tablespaces']
  readonly sourceBytes: number
  readonly stoppedAt: Date
  readonly warnings: readonly string[]
}

/**
 * Reads the cluster once, into the repository that the writer writes to. From 15 on pg_basebackup compresses by itself, and
 * writes to the repository's own disk where there is one and nothing is to be encrypted. Else a cluster without tablespaces of its own flows there
 * without a copy on our disk; one that has some is staged, since standard output carries one tar only.
 */
export async function takeBackup(options: TakeOptions): Promise<TakenBackup> {
  const { plan, folder, writer, news, signal } = options
  let stoppedAt: Date | null = null
  const lines = new BaseBackupLines({
    onProgress: (done, total) => news.onProgress(done, total),
    onWait: (what) => {
      if (what === 'archive') stoppedAt ??= plan.serverNow() // the server has made its mark in the WAL, and waits for nothing else
      news.onWait(what)
    },
  })
  const about = { ...options, onLine: (line: string) => lines.push(line) }
  const { tablespaces } = plan
  await rm(folder, { recursive: true, force: true }) // what an attempt before has left
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw diskFailure(error, 'cannot stage the backup')
  })
  let found: Found
  try {
    found = (await direct(about)) ?? (await (tablespaces.length === 0 ? streamed(about) : staged(about)))
  } catch (error) {
    signal.throwIfAborted()
    throw isTablespaceRefused(error) ? tablespacesChanged(error) : baseBackupFailure(error)
  }
  stoppedAt ??= plan.serverNow()
  const { wal } = await readBackupManifest(found.manifest)
  await options.onManifest(found.manifest)
  const artifacts = [...found.artifacts, await writer.put('backup_manifest', createReadStream(found.manifest))]
  const { directory } = plan.savedConfig
  if (directory !== null)
    artifacts.push(await packDirectory({ directory, env: plan.env, signal }, (tar) => writer.put('config.tar', tar)))
  await rm(folder, { recursive: true, force: true })
  return {
    ...{ artifacts, wal, stoppedAt },
    tablespaces: tablespaces.map(({ oid, path }) => ({ oid, path, artifact: `${oid}.tar.zst` })),
    sourceBytes: lines.totalBytes,
    warnings: lines.warnings,
  }
}

interface Found {
  readonly artifacts: readonly Artifact[]
  /** Path of PostgreSQL's backup_manifest. */
  readonly manifest: string
}

type Reading = TakeOptions & { readonly onLine: (line: string) => void }

async function streamed(options: Reading): Promise<Found> {
  const { folder, writer } = options
  const source = programOf(options, { directory: null })
  const base = await packTar({ ...packing(options), source, member: 'backup_manifest' }, (packed, plain) =>
    writer.putSealed('base.tar.zst', packed, plain),
  )
  return { artifacts: [base], manifest: join(folder, 'backup_manifest') }
}

/** Null where it cannot be done. */
async function direct(options: Reading): Promise<Found | null> {
  const { plan, writer, signal } = options
  if (plan.installation.major < 15) return null
  const directory = await writer.stage()
  if (directory === null) return null
  const files = filesOf(plan, true)
  const syncing = keepSyncing(
    files.map(({ file }) => join(directory, file)),
    options.clock,
  )
  try {
    await runProgram(programOf(options, { directory, isCompressed: true }))
  } catch (error) {
    await syncing.end()
    if (isCompressionRefused(error)) return null
    if (isDiskTrouble(error)) writer.blame(withCause(error))
    throw error
  }
  const lost = await syncing.end()
  if (lost !== null) writer.blame(diskFailure(lost, 'what was written cannot be synced'))
  await assertExpected(directory, files)
  const artifacts: Artifact[] = []
  for (const { file, artifact } of files) {
    const path = join(directory, file)
    const [{ size }, sha256] = await Promise.all([
      stat(path),
      sha256Of(plan.hasher, path, { env: plan.env, signal }),
      syncFile(path).catch((error: unknown) => writer.blame(diskFailure(error, `cannot sync ${artifact}`))),
    ])
    artifacts.push(await writer.adopt(artifact, path, { bytes: size, sha256 }))
  }
  return { artifacts, manifest: join(directory, 'backup_manifest') }
}

/** From 15 on pg_basebackup compresses what it writes; what older ones have written is compressed on its way to the repository. */
async function staged(options: Reading): Promise<Found> {
  const { plan, folder, writer, signal } = options
  const directory = join(folder, 'staged')
  const isCompressed = plan.installation.major >= 15
  await runProgram(programOf(options, { directory, isCompressed }))
  const files = filesOf(plan, isCompressed)
  await assertExpected(directory, files)
  const artifacts: Artifact[] = []
  for (const { name, file, artifact } of files) {
    const path = join(directory, file)
    const work = { ...packing(options), folder: join(folder, name) }
    artifacts.push(
      isCompressed
        ? await writer.put(artifact, createReadStream(path))
        : await packTar({ ...work, source: { program: 'cat', args: ['--', path], env: plan.env } }, (packed, plain) =>
            writer.putSealed(artifact, packed, plain),
          ),
    )
    await rm(path)
  }
  signal.throwIfAborted()
  return { artifacts, manifest: join(directory, 'backup_manifest') }
}

/** What pg_basebackup writes into a directory besides its manifest, and what it becomes. */
function filesOf({ tablespaces }: PhysicalPlan, isCompressed: boolean) {
  const names = ['base', ...tablespaces.map(({ oid }) => String(oid))]
  return names.map((name) => ({ name, file: `${name}.tar${isCompressed ? '.zst' : ''}`, artifact: `${name}.tar.zst` }))
}

async function assertExpected(directory: string, files: readonly { readonly file: string }[]): Promise<void> {
  const found = await readdir(directory)
  const expected = [...files.map(({ file }) => file), 'backup_manifest']
  if (found.length !== expected.length || !expected.every((name) => found.includes(name))) throw tablespacesChanged()
}

function packing({ config, plan, folder, writer, signal }: Reading) {
  const { env, hasher } = plan
  return { folder, env, hasher, encrypt: writer.encrypt, compression: config.physical.compression, signal }
}

function programOf(
  { config, plan, id, parentManifest, signal, onLine }: Reading,
  { directory, isCompressed = false }: { readonly directory: string | null; readonly isCompressed?: boolean },
) {
  const { checkpoint, maxRateKib, compression } = config.physical
  return baseBackupProgram({
    ...{ checkpoint, maxRateKib, directory, parentManifest, signal, onLine },
    installation: plan.installation,
    source: plan.source,
    env: plan.env,
    label: `lifeboat ${id}`,
    compression: isCompressed ? compression : null,
  })
}

function tablespacesChanged(cause?: unknown): LifeboatError {
  return new LifeboatError('server-error', 'a tablespace was made or dropped while the backup began', {
    hint: 'take the backup again',
    cause,
  })
}
