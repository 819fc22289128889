import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Inspection } from '../domain/external.ts'
import { identityOf } from '../domain/external-file.ts'
import { type LevelResult, type Proof, proofFormatVersion, type VerificationLevel } from '../domain/proof.ts'
import { lookAtFile } from '../external/file-facts.ts'
import { inspectDump } from '../external/inspect.ts'
import { restoreExternal } from '../external/restore-external.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { chooseClient, findInstallations, type Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { restoreSettings } from '../postgres/restore.ts'
import { startScratchServer } from '../postgres/scratch-server.ts'
import { LevelRecorder, VerdictError } from './level-recorder.ts'
import { Phases } from './phases.ts'
import { type ScratchAccount, scratchAccount } from './scratch-account.ts'
import { type RestoredCopy, removeScratch, whileAlive } from './scratch-restore.ts'
import { verifyAssertions, verifyIndexes } from './verify-data.ts'
import { freeBytes } from './work-folder.ts'

/** A file that another tool wrote, to be verified. */
export interface ExternalTarget {
  readonly id: string
  readonly watch: string
  readonly path: string
  readonly database: string
}

export interface VerifyExternalOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly version: string
  readonly target: ExternalTarget
  readonly level: VerificationLevel
  /** Work folder of this file alone; made by the caller, who removes it. */
  readonly folder: string
  readonly onProgress: (ratio: number, message: string) => void
}

/**
 * Verifies a file that another tool wrote: that it is a whole dump, that it can be restored into an empty server, and that
 * what comes out is sound. There is no fingerprint to compare it with, so `data` means less than for Lifeboat's own
 * backups: structure and the user's assertions, not equality.
 *
 * The proof names the identity of the file in the place of a manifest's checksum.
 */
export async function verifyExternal(options: VerifyExternalOptions): Promise<Proof> {
  const { clock, target, signal } = options
  const startedAt = clock.now().toISOString()
  const phases = new Phases(clock)
  const levels: Partial<Record<VerificationLevel, LevelResult>> = {}
  const identity = await identityAt(target.path)
  const inspection = await verifyLevels(options, levels, phases)
  signal.throwIfAborted()
  if ((await identityAt(target.path)) !== identity) {
    const last = new LevelRecorder(clock)
    last.add(
      { name: 'unchanged', verdict: 'inconclusive', detail: 'the file was changed meanwhile' },
      'artifact-changed',
    )
    levels.artifact = last.result()
  }
  return {
    formatVersion: proofFormatVersion,
    backupId: target.id,
    manifestChecksum: identity,
    startedAt,
    finishedAt: clock.now().toISOString(),
    level: options.level,
    levels,
    hashed: [],
    phases: phases.seconds(),
    serverVersion: inspection.serverVersion ?? '',
    lifeboat: options.version,
    checksum: '',
  }
}

/** Empty when the file is not there. */
async function identityAt(path: string): Promise<string> {
  const facts = await lookAtFile(path)
  return facts === null ? '' : identityOf(facts)
}

async function verifyLevels(
  options: VerifyExternalOptions,
  levels: Partial<Record<VerificationLevel, LevelResult>>,
  phases: Phases,
): Promise<Inspection> {
  const { config, clock, target, signal, level, onProgress, log } = options
  const installations = await findInstallations(config.postgres.binDir)
  const whole = new LevelRecorder(clock)
  onProgress(0, 'reading')
  const inspection = await phases.time('fetch', () => inspectDump(target.path, { installations, signal }))
  addInspection(whole, inspection)
  levels.artifact = whole.result()
  if (whole.verdict !== 'pass' || level === 'artifact') return inspection

  const restoring = new LevelRecorder(clock)
  onProgress(0.3, 'restoring')
  const copy = await restore(options, { inspection, installations, phases }, restoring)
  try {
    levels.restore = restoring.result()
    if (copy === null || level === 'restore') return inspection
    onProgress(0.7, 'checking')
    const data = new LevelRecorder(clock)
    const part = (name: string, cause: string, work: () => Promise<void>) =>
      data.look(name, cause, signal, () => whileAlive(copy.server, name, () => phases.time(name, work)))
    data.pass('rows', 'not compared: a file of another tool has no fingerprint')
    await part('amcheck', 'corruption', () => verifyIndexes({ copy, jobs: config.verification.jobs, signal }, data))
    const assertions = config.verification.assertions.filter(({ database }) => database === target.database)
    await part('assertions', 'assertion-failed', () => verifyAssertions({ copy, assertions, signal }, data))
    levels.data = data.result()
    return inspection
  } finally {
    if (copy !== null) await removeScratch(copy.server, log)
  }
}

function addInspection(recorder: LevelRecorder, { state, detail, format, compression }: Inspection): void {
  if (state === 'sound') recorder.pass('contents', `${format}${compression === 'none' ? '' : `, ${compression}`}`)
  else if (state === 'unchecked')
    recorder.add({ name: 'contents', verdict: 'inconclusive', detail: detail ?? '' }, 'not-readable')
  else recorder.add({ name: 'contents', verdict: 'fail', detail: detail ?? '' }, state)
}

interface RestoreParts {
  readonly inspection: Inspection
  readonly installations: readonly Installation[]
  readonly phases: Phases
}

async function restore(
  options: VerifyExternalOptions,
  parts: RestoreParts,
  recorder: LevelRecorder,
): Promise<RestoredCopy | null> {
  const { signal, log } = options
  const { inspection, installations, phases } = parts
  const clients = await recorder.look('programs', 'program-missing', signal, async () =>
    chooseClient(installations, majorOf(inspection.dumpVersion) ?? 0),
  )
  const started =
    clients === null
      ? null
      : await recorder.look(
          'scratch server',
          'scratch-server-failed',
          signal,
          () => start(options, parts),
          'inconclusive',
        )
  if (clients === null || started === null) return null
  const { server, account } = started
  let copy: RestoredCopy | null = null
  try {
    copy = await recorder.look('restore', 'restore-failed', signal, () =>
      whileAlive(server, 'restore', async () => {
        const { folder } = options
        const settings = restoreSettings(server.installation.major)
        const env = await clientEnvironment({
          source: server.source,
          serverMajor: server.installation.major,
          workFolder: folder,
          settings,
        })
        const database = await makeDatabase(options, server.source, inspection)
        const { osUser, isolation } = account
        const errors = await phases.time('restore', () =>
          restoreExternal({
            ...{ path: options.target.path, inspection, server, clients, database, osUser, isolation, signal },
            env: { ...env, [workMarker]: folder },
            jobs: options.config.verification.jobs,
          }),
        )
        const worst = errors.worst()
        if (worst !== null) {
          const verdict = worst.meaning === 'fault' ? 'fail' : 'inconclusive'
          const cause = worst.meaning === 'fault' ? 'restore-failed' : worst.meaning
          throw new VerdictError(verdict, cause, 'restore', worst.messages.slice(0, 3).join('; '))
        }
        const restored = await restoredDatabase(options, server.source, inspection, database)
        recorder.pass('isolation', isolation.detail)
        recorder.pass('restore', await describe(server.source, restored, errors.roles, signal))
        return { server, database: restored, env, clients }
      }),
    )
    return copy
  } finally {
    if (copy === null) await removeScratch(server, log)
  }
}

/** Compressed dumps of text grow to several times their size. */
const growth = { none: 2, gzip: 10, zstd: 10 } as const
const spareBytes = 256 * 1024 * 1024

async function start(
  { config, folder, signal }: VerifyExternalOptions,
  { inspection, installations, phases }: RestoreParts,
): Promise<{ server: RestoredCopy['server']; account: ScratchAccount }> {
  const needed = inspection.bytes * growth[inspection.compression ?? 'none'] + spareBytes
  const free = await freeBytes(folder)
  if (free < needed) {
    const words = `the restore needs about ${needed} bytes, ${folder} has ${free} free`
    throw new VerdictError('inconclusive', 'disk-full', 'scratch server', words)
  }
  const installation = serverFor(installations, majorOf(inspection.serverVersion))
  const account = await scratchAccount(config, [folder, installation.directory], signal)
  const server = await startScratchServer({
    installation,
    directory: join(folder, 'scratch'),
    osUser: account.osUser,
    through: account.isolation.through,
    superuser: 'postgres',
    initdbArgs: ['-E', 'UTF8', '--locale=C'],
    workFolder: folder,
    signal,
    onPhase: (phase) => phases.begin(phase),
  }).finally(() => phases.end())
  return { server, account }
}

/** The very major version, or else the next newer one: a dump is what one moves to a newer version with. */
function serverFor(installations: readonly Installation[], major: number | null): Installation {
  const able = installations
    .filter((one) => one.server && (major === null || one.major >= major))
    .toSorted((a, b) => a.major - b.major)
  const found = major === null ? able.at(-1) : able[0]
  if (found !== undefined) return found
  const what = major === null ? 'a PostgreSQL server' : `a PostgreSQL server of version ${major} or newer`
  throw new VerdictError('inconclusive', 'program-missing', 'scratch server', `this machine has not got ${what}`)
}

function majorOf(version: string | null): number | null {
  const major = Number.parseInt(version ?? '', 10)
  return Number.isNaN(major) ? null : major
}

/** A dump of a whole cluster brings its databases; any other is restored into one of its name. */
async function makeDatabase(
  { target, signal }: VerifyExternalOptions,
  source: RestoredCopy['server']['source'],
  { isWholeCluster }: Inspection,
): Promise<string> {
  if (isWholeCluster || target.database === '' || target.database === 'postgres') return 'postgres'
  await withSession(source, { database: 'postgres', signal }, (session) =>
    session.query(`create database ${quoteIdentifier(target.database)} template template0`),
  )
  return target.database
}

/** What to look at afterwards: of a whole cluster the database that the file is named for, or the largest. */
async function restoredDatabase(
  { target, signal }: VerifyExternalOptions,
  source: RestoredCopy['server']['source'],
  { isWholeCluster }: Inspection,
  database: string,
): Promise<string> {
  if (!isWholeCluster) return database
  const found = await withSession(source, { database: 'postgres', signal }, (session) =>
    session.query<{ name: string }>(
      `select datname as name from pg_database where datallowconn and not datistemplate order by pg_database_size(oid) desc`,
    ),
  )
  return found.find(({ name }) => name === target.database)?.name ?? found[0]?.name ?? database
}

async function describe(
  source: RestoredCopy['server']['source'],
  database: string,
  roles: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const [row] = await withSession(source, { database, signal }, (session) =>
    session.query<{ tables: string }>(
      `select count(*)::text as tables from pg_class where relkind in ('r', 'p')
         and relnamespace not in (select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema', 'pg_toast'))`,
    ),
  )
  const missing =
    roles.length === 0 ? '' : `; roles that the dump names and does not carry: ${roles.slice(0, 5).join(', ')}`
  return `${row?.tables} tables${missing}`
}
