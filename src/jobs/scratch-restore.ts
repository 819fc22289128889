import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Manifest } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import type { Fingerprint } from '../domain/fingerprint.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier, quoteLiteral } from '../postgres/conninfo.ts'
import { applyGlobals, bootstrapSuperuserOf, globalsForScratch } from '../postgres/globals.ts'
import { chooseClient, chooseServer, type Installation } from '../postgres/installations.ts'
import { restoreDump, restoreSettings } from '../postgres/restore.ts'
import type { ScratchServer } from '../postgres/scratch-server.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { whileRoom } from './room.ts'
import { type StartedScratch, startScratch } from './scratch-start.ts'
import { dumpMajor } from './verify-artifacts.ts'

export interface ScratchRestoreOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly manifest: Manifest
  readonly folder: string
  readonly installations: readonly Installation[]
  /** The unpacked dump. */
  readonly directory: string
  readonly globals: string
  readonly fingerprint: Fingerprint | null
  readonly phases: Phases
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onTable: (table: string) => void
}

/** A restored copy, up to be looked at. Whoever gets it removes it. */
export interface RestoredCopy {
  readonly server: ScratchServer
  readonly database: string
  readonly env: Readonly<Record<string, string>>
  readonly clients: Installation
}

/**
 * The level `restore`: the backup is really restored, roles first, into a new server of its own major version. What the
 * machine lacks (programs, extensions, locales, space) is looked at before, and makes the verdict `inconclusive`.
 */
export async function restoreIntoScratch(
  options: ScratchRestoreOptions,
  recorder: LevelRecorder,
): Promise<RestoredCopy | null> {
  const { signal, manifest, clock, folder } = options
  const database = manifest.database?.name ?? ''
  const clients = await recorder.look('programs', 'program-missing', signal, async () =>
    chooseClient(options.installations, dumpMajor(manifest)),
  )
  // Whatever keeps an empty server from starting is of this machine.
  const started =
    clients === null
      ? null
      : await recorder.look('scratch server', 'scratch-server-failed', signal, () => start(options), 'inconclusive')
  if (clients === null || started === null) return null
  const { server, account } = started
  let kept = false
  try {
    const env = await clientEnvironment({
      source: server.source,
      serverMajor: server.installation.major,
      workFolder: options.folder,
      settings: restoreSettings(server.installation.major),
    })
    const restore = async () => {
      await withSession(server.source, { database: 'template1', signal }, (session) => preflight(session, options))
      recorder.pass('preflight', account.isolation.detail)
      await options.phases.time('globals', () => restoreGlobals(options, server))
      recorder.pass('globals')
      // A dump holds code, and its source may have been smaller: what it will take is a guess.
      const warnings = await options.phases.time('restore', () =>
        whileRoom({ clock, folder, check: 'restore', signal }, (signal) =>
          restoreDump({
            installation: clients,
            source: server.source,
            env,
            directory: options.directory,
            database: 'template1',
            create: true,
            jobs: options.config.verification.jobs,
            signal,
            onTable: options.onTable,
            extraArgs: server.installation.major < 15 ? ['--no-tablespaces'] : [],
          }),
        ),
      )
      recorder.pass(
        'restore',
        warnings.length > 0 ? `${warnings.length} warnings: ${warnings.slice(0, 3).join('; ')}` : undefined,
      )
      return true
    }
    const look = () => whileAlive(server, 'restore', restore)
    kept = (await recorder.look('restore', 'restore-failed', signal, look)) === true
    return kept ? { server, database, env, clients } : null
  } finally {
    if (!kept) await removeScratch(server, options.log)
  }
}

/** Removes a scratch server. What resists is left to its work folder's removal: it must not take the verdict's place. */
export async function removeScratch(server: ScratchServer, log: Logger): Promise<void> {
  await server.remove().catch((error: unknown) => {
    log.warn({ folder: server.dataDirectory, ...toFailure(error) }, 'the scratch server could not be removed')
  })
}

/** Without its server nothing that fails says anything about the backup. */
export async function whileAlive<T>(
  server: Pick<ScratchServer, 'isLost'>,
  check: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(await server.isLost())) throw error
    const words = `the scratch server has ended: ${(error as Error).message}`
    throw new VerdictError('inconclusive', 'scratch-server-lost', check, words)
  }
}

async function start(options: ScratchRestoreOptions): Promise<StartedScratch> {
  const { config, manifest, folder, installations, globals, fingerprint, phases, signal } = options
  return startScratch({
    ...{ config, folder, phases, signal },
    // Restored data and its indexes take about what the source took.
    dataBytes: manifest.database?.sourceBytes ?? 0,
    installation: () => chooseServer(installations, Math.floor(manifest.serverVersionNum / 10_000)),
    superuser: bootstrapSuperuserOf(globals),
    // Names of roles are stored in the bytes of the database that they were made in: one encoding for all of them here.
    initdbArgs: ['-E', String(fingerprint?.database.encoding ?? 'UTF8'), '--locale=C'],
  })
}

/** What the dump needs and this machine may lack. */
async function preflight(session: Session, { manifest, fingerprint }: ScratchRestoreOptions): Promise<void> {
  // Made by initdb; the dump makes it anew if it is the one that was dumped.
  if (manifest.database?.name === 'postgres') await session.query('drop database postgres')
  if (fingerprint === null) return
  const available = await session.query<{ name: string }>('select name from pg_available_extensions')
  const names = new Set(available.map(({ name }) => name))
  const missing = fingerprint.extensions.filter(({ name }) => !names.has(name)).map(({ name }) => name)
  if (missing.length > 0) {
    throw new VerdictError(
      'inconclusive',
      'extension-missing',
      'preflight',
      `this machine has no extension ${missing.join(', ')}; install its package`,
    )
  }
  await tryLocale(session, fingerprint)
}

/** A locale that this machine has not got is refused at CREATE DATABASE; asking costs a copy of template0. */
async function tryLocale(session: Session, { database }: Fingerprint): Promise<void> {
  const { encoding, datcollate: collate, datctype: ctype } = database
  if (typeof encoding !== 'string' || typeof collate !== 'string' || typeof ctype !== 'string') return
  if ([collate, ctype].every((locale) => locale === 'C' || locale === 'POSIX')) return
  const probe = quoteIdentifier('lifeboat_locale_probe')
  try {
    await session.query(
      `create database ${probe} template template0 encoding ${quoteLiteral(encoding)} lc_collate ${quoteLiteral(collate)} lc_ctype ${quoteLiteral(ctype)}`,
    )
    await session.query(`drop database ${probe}`)
  } catch (error) {
    const state = (error as { details?: { sqlState?: string } }).details?.sqlState
    if (state !== '42809' && state !== '22023') throw error
    throw new VerdictError(
      'inconclusive',
      'locale-missing',
      'preflight',
      `this machine has no locale ${collate}: ${(error as Error).message}`,
    )
  }
}

async function restoreGlobals({ globals, signal }: ScratchRestoreOptions, server: ScratchServer): Promise<void> {
  if (globals.includes('\ufffd')) {
    throw new VerdictError(
      'inconclusive',
      'globals-encoding',
      'globals',
      'globals.sql is not in UTF-8: names of several encodings cannot be restored into one server',
    )
  }
  try {
    const fitting = globalsForScratch(globals, server.source.user, server.installation.major)
    await withSession(server.source, { database: 'template1', signal }, (session) => applyGlobals(session, fitting))
  } catch (error) {
    const { code, message } = toFailure(error)
    if (code !== 'server-error' && code !== 'artifact-invalid') throw error
    throw new VerdictError('fail', 'globals-failed', 'globals', message)
  }
}
