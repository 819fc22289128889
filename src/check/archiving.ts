import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { ArchiverSample } from '../domain/archiver.ts'
import { sampleArchiver } from '../postgres/archiver.ts'
import {
  archivingFacts,
  canSwitchSegment,
  incomingDirectory,
  isOurs,
  makeDirectoryHint,
  switchSegment,
} from '../postgres/archiving.ts'
import { type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

interface Looking {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** How long the segment may take to arrive. */
  readonly deadlineMs?: number
}

const defaultDeadlineMs = 60_000
const pollMs = 100
const seeLog = "the server's log has the reason"
const setup = '`lifeboat wal setup` shows what to set'

/** Proves that the server's WAL arrives in the archive: finishes a segment and waits for it. Nothing without wal.archive. */
export async function checkArchiving(config: ValidatedConfig, looking: Looking): Promise<readonly Finding[]> {
  const { archive, stream } = config.wal
  if (archive === null) return []
  const { signal } = looking
  const database = config.postgres.maintenanceDatabase
  return [
    // With streaming Lifeboat makes it, and need not be archived to.
    ...(stream === null ? await looked('wal', () => checkDirectory(archive)) : []),
    ...(await looked('wal', () =>
      withSession(config.postgres, { database, signal }, async (session) =>
        stream !== null && !(await isArchivedTo(session, archive)) ? [] : checkServerSide(session, archive, looking),
      ),
    )),
  ]
}

/** Whether it is there, for us to read. */
async function checkDirectory(archive: string): Promise<readonly Finding[]> {
  const lacking = await whyNotReady(archive)
  return lacking === null ? [] : [lacking]
}

async function whyNotReady(archive: string): Promise<Finding | null> {
  for (const path of [archive, join(archive, incomingDirectory)]) {
    try {
      if ((await stat(path)).isDirectory()) continue
      return problem('wal', `${path} is no directory`, setup)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      return problem(
        'wal',
        `the archive directory cannot be used: ${message}`,
        directoryHints[code ?? '']?.(archive) ?? setup,
      )
    }
  }
  return null
}

const directoryHints: Readonly<Record<string, (archive: string) => string>> = {
  ENOENT: (archive) => `mount its disk if it has one of its own; if it is new, ${makeDirectoryHint(archive)}`,
  EACCES: () => 'put the OS user of lifeboat into the group of the directory, and start it again',
}

async function checkServerSide(session: Session, archive: string, looking: Looking): Promise<readonly Finding[]> {
  const { settings, inRecovery, segmentBytes } = await archivingFacts(session)
  const setTo = (name: string) => settings.find((one) => one.name === name)?.setting ?? ''
  const [mode, command, library] = [setTo('archive_mode'), setTo('archive_command'), setTo('archive_library')]
  if (mode === 'off') return [problem('wal', 'the server archives no WAL: archive_mode is off', setup)]
  if (command === '' && library === '')
    return [problem('wal', 'the server archives no WAL, but keeps it all: archive_command is empty', setup)]
  const found: Finding[] = []
  if (!isOurs(command)) {
    const what = library === '' ? command : `the library ${library}`
    found.push(warning('wal', `the server archives with ${what}, which lifeboat does not know`, setup))
  } else if (!namesDirectory(command, archive)) {
    found.push(problem('wal', `archive_command names another directory than wal.archive: ${command}`, setup))
  }
  if (inRecovery) {
    const what = 'the server is a standby: that its WAL arrives can be tried on the primary only'
    return [...found, warning('wal', what, 'run lifeboat check there')]
  }
  if (!(await canSwitchSegment(session))) return [...found, await notPermitted(session)]
  return [...found, await proveArrival(session, archive, segmentBytes, looking)]
}

function namesDirectory(command: string, archive: string): boolean {
  return command.includes(archive.replaceAll('%', '%%').replaceAll("'", `'\\''`))
}

async function isArchivedTo(session: Session, archive: string): Promise<boolean> {
  const { settings } = await archivingFacts(session)
  const setTo = (name: string) => settings.find((one) => one.name === name)?.setting ?? ''
  return setTo('archive_mode') !== 'off' && namesDirectory(setTo('archive_command'), archive)
}

async function notPermitted(session: Session): Promise<Finding> {
  const [row] = await session.query<{ name: string }>('select current_user as name')
  const role = quoteIdentifier(row?.name ?? '')
  return warning(
    'wal',
    'that WAL arrives in the archive was not tried: the role may not finish a segment',
    `GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO ${role} (in the maintenance database)`,
  )
}

async function proveArrival(
  session: Session,
  archive: string,
  segmentBytes: number,
  { clock, signal, deadlineMs = defaultDeadlineMs }: Looking,
): Promise<Finding> {
  const before = await sampleArchiver(session)
  const segment = await switchSegment(session)
  const began = clock.monotonic()
  let last = before
  for (;;) {
    // Asked before the directory is looked at: what is archived now must be there then.
    const status = await sampleArchiver(session)
    const died = last.process !== null && status.process?.pid !== last.process.pid
    last = status
    const tookSeconds = (clock.monotonic() - began) / 1000
    const size = await sizeOf(join(archive, segment))
    if (size === segmentBytes) return ok('wal', `${segment} arrived in ${archive} after ${tookSeconds.toFixed(1)} s`)
    if (status.files?.done.includes(segment) === true) {
      const what = size === null ? 'it is not there' : `it has ${size} bytes instead of ${segmentBytes}`
      return problem('wal', `the server counts ${segment} as archived, but in ${archive} ${what}`, setup)
    }
    if (status.failed !== before.failed) return failing(status)
    if (died) return dying()
    if (tookSeconds * 1000 >= deadlineMs) return late(segment, before, status, tookSeconds)
    await clock.sleep(pollMs, signal)
  }
}

/** Null where there is none. @throws whatever else keeps us from seeing */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

const failing = ({ lastFailed }: ArchiverSample) =>
  problem(
    'wal',
    `archive_command fails${lastFailed === null ? '' : ` for ${lastFailed}`}: the server keeps its WAL until it does not`,
    `${seeLog}, beside "archive command failed"`,
  )

const dying = () =>
  problem(
    'wal',
    "archive_command ends the server's archiver: it exits with a status above 125, or cannot be started at all",
    `see that the server's OS user can run it; ${seeLog}`,
  )

function late(
  segment: string,
  before: ArchiverSample,
  { process, archived, files }: ArchiverSample,
  seconds: number,
): Finding {
  if (process === null && files !== null) return dying() // a role that may list them sees the process, too
  const behind = files === null ? '' : `; ${files.ready} files wait`
  const took = `${segment} did not arrive within ${Math.round(seconds)} s`
  if (archived === before.archived && process?.waitEvent === 'ArchiveCommand')
    return problem(
      'wal',
      `${took}: archive_command does not return${behind}`,
      'see what it waits for (`ps -ef`, a network disk), and end it: the server tries again',
    )
  return problem('wal', `${took}${behind}`, "the server's log and pg_stat_archiver tell how far it is")
}
