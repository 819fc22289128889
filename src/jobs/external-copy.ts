import type { Inspection } from '../domain/external.ts'
import type { RestoreErrors } from '../external/restore-errors.ts'
import { restoreExternal } from '../external/restore-external.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { chooseClient, type Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { restoreSettings } from '../postgres/restore.ts'
import { describeCopy, makeDatabase, restoredDatabases } from './external-databases.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { whileRoom } from './room.ts'
import { type RestoredCopy, removeScratch, whileAlive } from './scratch-restore.ts'
import { type StartedScratch, startScratch } from './scratch-start.ts'
import type { VerifyExternalOptions } from './verify-external.ts'

export interface CopyParts {
  readonly inspection: Inspection
  readonly installations: readonly Installation[]
  readonly phases: Phases
}

/** What came out of a dump; `database` is the first of `databases`. */
export interface ExternalCopy extends RestoredCopy {
  readonly databases: readonly string[]
}

/**
 * Restores a sound dump of another tool into a scratch server and says in the recorder how that went.
 *
 * @returns null when it did not go well; else the caller removes the server
 */
export async function restoreExternalCopy(
  options: VerifyExternalOptions,
  parts: CopyParts,
  recorder: LevelRecorder,
): Promise<ExternalCopy | null> {
  const { signal, log } = options
  const clients = await recorder.look('programs', 'program-missing', signal, async () =>
    chooseClient(parts.installations, majorOf(parts.inspection.dumpVersion) ?? 0),
  )
  if (clients === null) return null
  const starting = () => start(options, parts)
  const started = await recorder.look('scratch server', 'scratch-server-failed', signal, starting, 'inconclusive')
  if (started === null) return null
  const { server } = started
  let copy: ExternalCopy | null = null
  try {
    copy = await recorder.look('restore', 'restore-failed', signal, () =>
      whileAlive(server, 'restore', () => fill(options, parts, { ...started, clients }, recorder)),
    )
    return copy
  } finally {
    if (copy === null) await removeScratch(server, log)
  }
}

interface Started extends StartedScratch {
  readonly clients: Installation
}

async function fill(
  options: VerifyExternalOptions,
  { inspection, phases }: CopyParts,
  { server, account, clients }: Started,
  recorder: LevelRecorder,
): Promise<ExternalCopy> {
  const { folder, signal, target, config, clock } = options
  const { osUser, isolation } = account
  const env = await clientEnvironment({
    source: server.source,
    serverMajor: server.installation.major,
    workFolder: folder,
    // What is said is judged, and a dump may set another language for its database.
    settings: { ...restoreSettings(server.installation.major), lc_messages: 'C' },
  })
  const database = await makeDatabase(server.source, target.database, inspection, signal)
  const restore = (signal: AbortSignal) =>
    restoreExternal({
      ...{ path: target.path, inspection, server, clients, database, osUser, isolation, signal },
      env: { ...env, [workMarker]: folder },
      jobs: config.verification.jobs,
    })
  const errors = await phases.time('restore', () => whileRoom({ clock, folder, check: 'restore', signal }, restore))
  assertHarmless(errors, inspection, server.installation)
  const found = await restoredDatabases(server.source, target.database, { inspection, made: database }, signal)
  const detail = await describeCopy({ path: target.path, inspection, clients, server, errors, found, signal })
  recorder.pass('isolation', isolation.detail)
  recorder.pass('restore', detail)
  const databases = found.map(({ name }) => name)
  return { server, database: databases[0] ?? database, databases, env, clients }
}

/** A fault in a server of another version than that of the dump may be the version's. */
function assertHarmless(errors: RestoreErrors, inspection: Inspection, { major }: Installation): void {
  const worst = errors.worst()
  if (worst === null) return
  const words = worst.messages.slice(0, 3).join('; ')
  if (worst.meaning !== 'fault') throw new VerdictError('inconclusive', worst.meaning, 'restore', words)
  const other = [inspection.serverVersion, inspection.dumpVersion].map(majorOf).find((one) => (one ?? major) !== major)
  if (other === undefined) throw new VerdictError('fail', 'restore-failed', 'restore', words)
  const detail = `${words} (restored into PostgreSQL ${major}, the dump is of ${other}: install that version to know)`
  throw new VerdictError('inconclusive', 'version-differs', 'restore', detail)
}

/** Compressed dumps of text grow to several times their size. */
const growth = { none: 2, gzip: 10, zstd: 10 } as const

async function start(
  { config, folder, signal }: VerifyExternalOptions,
  { inspection, installations, phases }: CopyParts,
): Promise<StartedScratch> {
  return startScratch({
    ...{ config, folder, phases, signal },
    dataBytes: inspection.bytes * growth[inspection.compression ?? 'none'],
    installation: () => serverFor(installations, majorOf(inspection.serverVersion)),
    superuser: 'postgres',
    initdbArgs: ['-E', 'UTF8', '--locale=C'],
  })
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
