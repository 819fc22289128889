import type { Assertion } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { compareFingerprints, type Fingerprint } from '../domain/fingerprint.ts'
import { connect, type Session, withSession } from '../postgres/connection.ts'
import { conninfo, quoteIdentifier } from '../postgres/conninfo.ts'
import { withCause } from '../postgres/failures.ts'
import { fingerprintSettings, retakeFingerprint } from '../postgres/fingerprint.ts'
import { programPath } from '../postgres/installations.ts'
import { runProgram } from '../postgres/programs.ts'
import { compareSequences, sequencesBehind } from '../postgres/sequences.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { type RestoredCopy, whileAlive } from './scratch-restore.ts'

const maxFindings = 5

/** A restored database, as the checks see it. */
export interface CheckedCopy extends Pick<RestoredCopy, 'database' | 'env'> {
  readonly server: Pick<RestoredCopy['server'], 'source' | 'installation' | 'isLost'>
}

export interface DataOptions {
  readonly copy: RestoredCopy
  readonly directory: string
  readonly folder: string
  readonly fingerprint: Fingerprint | null
  readonly assertions: readonly Assertion[]
  readonly jobs: number
  readonly phases: Phases
  readonly signal: AbortSignal
}

/**
 * The level `data`: the restored copy holds exactly what the source held in the dump's snapshot, its indexes and heaps
 * are sound, and the user's own statements give what they should. Every part is looked at, whatever the others found.
 */
export async function verifyData(options: DataOptions, recorder: LevelRecorder): Promise<void> {
  const { phases, signal } = options
  const part = (phase: string, name: string, cause: string, work: () => Promise<void>) =>
    recorder.look(name, cause, signal, () => whileAlive(options.copy.server, name, () => phases.time(phase, work)))
  await part('fingerprint', 'rows', 'fingerprint-failed', () => verifyFingerprint(options, recorder))
  await part('sequences', 'sequences', 'sequences-differ', () => verifySequences(options, recorder))
  await part('amcheck', 'amcheck', 'corruption', () => verifyIndexes(options, recorder))
  await part('assertions', 'assertions', 'assertion-failed', () => verifyAssertions(options, recorder))
}

async function verifyFingerprint(
  { copy, fingerprint, jobs, signal }: DataOptions,
  recorder: LevelRecorder,
): Promise<void> {
  if (fingerprint === null) {
    throw new VerdictError(
      'inconclusive',
      'fingerprint-missing',
      'rows',
      'the backup was taken without a fingerprint: there is nothing to compare with',
    )
  }
  const open = () => connect(copy.server.source, { database: copy.database, settings: fingerprintSettings, signal })
  const sessions: Session[] = []
  try {
    for (let index = 0; index < Math.max(1, jobs); index += 1) {
      const session = await open()
      sessions.push(session)
      await session.query('begin transaction isolation level repeatable read read only')
    }
    const found = await retakeFingerprint(sessions as [Session, ...Session[]], fingerprint)
    for (const { cause, ...check } of compareFingerprints(fingerprint, found)) recorder.add(check, cause)
  } finally {
    await Promise.all(sessions.map((session) => session.close()))
  }
}

/** Sequences are not part of any snapshot: the truth is the `setval` that the dump itself carries. */
async function verifySequences(
  { copy, directory, folder, signal }: DataOptions,
  recorder: LevelRecorder,
): Promise<void> {
  const wrong = await compareSequences({
    installation: copy.clients,
    directory,
    folder,
    env: copy.env,
    source: copy.server.source,
    database: copy.database,
    signal,
  })
  if (wrong.length > 0) throw new VerdictError('fail', 'sequences-differ', 'sequences', wrong.slice(0, 5).join('; '))
  const behind = await withSession(copy.server.source, { database: copy.database, signal }, sequencesBehind)
  recorder.pass(
    'sequences',
    behind.length > 0 ? `behind their columns, as in the source: ${behind.slice(0, 5).join(', ')}` : undefined,
  )
}

export interface IndexOptions extends Pick<DataOptions, 'jobs' | 'signal'> {
  readonly copy: CheckedCopy
  /** Follows the names of the checks: of which database, where there are several. */
  readonly of?: string
  /** The files are those of the source: an index that is invalid was invalid there. */
  readonly isPhysical?: boolean
}

/** Indexes that PostgreSQL holds for invalid, and what pg_amcheck finds in heaps and indexes. */
export async function verifyIndexes(
  { copy, jobs, signal, of = '', isPhysical = false }: IndexOptions,
  recorder: LevelRecorder,
): Promise<void> {
  const [indexes, amcheck] = [`indexes${of}`, `amcheck${of}`]
  const { server, database } = copy
  const [state] = await withSession(server.source, { database, signal }, (session) =>
    session.query<{ invalid: string[]; amcheck: boolean }>(
      `select coalesce((select jsonb_agg(indexrelid::regclass::text) from pg_index where not indisvalid), '[]') as invalid,
         exists (select from pg_available_extensions where name = 'amcheck') as amcheck`,
    ),
  )
  if (state === undefined || !state.amcheck) {
    throw new VerdictError(
      'inconclusive',
      'extension-missing',
      amcheck,
      'this machine has no extension amcheck; install the contrib package',
    )
  }
  const invalid = state.invalid.slice(0, 5).join(', ')
  if (invalid !== '' && !isPhysical) throw new VerdictError('fail', 'invalid-index', indexes, invalid)
  recorder.pass(indexes, invalid === '' ? undefined : `invalid, as in the source: ${invalid}`)
  // Only now: the extension would count as one that the source has not got, and a trigger of the user's may forbid it.
  await withSession(server.source, { database, signal }, disableEventTriggers)
  const findings: string[] = []
  await runProgram({
    program: programPath(server.installation, 'pg_amcheck'),
    args: [
      '--install-missing',
      '--heapallindexed',
      '--rootdescend',
      `--jobs=${jobs}`,
      '--no-password',
      '--',
      conninfo({ ...server.source, database }),
    ],
    env: copy.env,
    signal,
    onStdoutLine: (line) => {
      if (findings.length < maxFindings) findings.push(line.trim())
    },
  }).catch((error: unknown) => {
    const cause = withCause(error)
    // Status 2: it ran, and found something; what it found is on standard output.
    if (!(cause instanceof LifeboatError) || cause.code !== 'program-failed' || cause.details?.exitCode !== 2)
      throw cause
    throw new VerdictError('fail', 'corruption', amcheck, findings.join('; ') || cause.message)
  })
  recorder.pass(amcheck)
}

/** Source: https://www.postgresql.org/docs/current/event-trigger-definition.html (they do not fire for ALTER EVENT TRIGGER) */
async function disableEventTriggers(session: Session): Promise<void> {
  const triggers = await session.query<{ name: string }>('select evtname as name from pg_event_trigger')
  for (const { name } of triggers) await session.query(`alter event trigger ${quoteIdentifier(name)} disable`)
}

export function assertionName({ name }: Assertion): string {
  return `assertion ${name}`
}

/** The user's own statements, each a check. */
export async function verifyAssertions(
  { copy, assertions, signal }: Pick<DataOptions, 'assertions' | 'signal'> & { readonly copy: CheckedCopy },
  recorder: LevelRecorder,
): Promise<void> {
  for (const assertion of assertions) {
    const name = assertionName(assertion)
    await recorder.look(name, 'assertion-failed', signal, async () => {
      const found = await withSession(
        copy.server.source,
        { database: copy.database, signal, settings: assertionSettings },
        (session) => session.query<Record<string, unknown>>(assertion.sql),
      ).catch((error: unknown) => {
        throw isTimeout(error) ? tooSlow(name) : error
      })
      const value = Object.values(found[0] ?? {})[0]
      if (!asExpected(value, assertion.expect)) {
        throw new VerdictError(
          'fail',
          'assertion-failed',
          name,
          `got ${JSON.stringify(value ?? null)} instead of ${JSON.stringify(assertion.expect)}`,
        )
      }
      recorder.pass(name)
    })
  }
}

/** A statement that never ends must not keep other backups from being verified. */
const assertionSettings = { default_transaction_read_only: 'on', statement_timeout: '10min' }

function isTimeout(error: unknown): boolean {
  return error instanceof LifeboatError && error.details?.sqlState === '57014'
}

function tooSlow(name: string): VerdictError {
  const words = `it took longer than ${assertionSettings.statement_timeout}, or ended itself`
  return new VerdictError('inconclusive', 'assertion-timeout', name, words)
}

/** The driver gives bigint and numeric as text, so that numbers compare by value. */
function asExpected(found: unknown, expected: Assertion['expect']): boolean {
  if (expected === null) return found === null || found === undefined
  if (found === null || found === undefined) return false
  if (typeof expected === 'boolean') return found === expected
  if (found instanceof Date) return found.toISOString() === expected
  const text = typeof found === 'string' ? found : JSON.stringify(found)
  if (typeof expected === 'string') return text === expected
  // Not true for 1, nor an empty list for 0.
  return (typeof found === 'string' || typeof found === 'number') && Number(text) === expected && text.trim() !== ''
}
