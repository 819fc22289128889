import type { Assertion } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { withSession } from '../postgres/connection.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { whileAlive } from './scratch-restore.ts'
import { type CheckedCopy, verifyAssertions, verifyIndexes } from './verify-data.ts'

export interface ClusterDataOptions {
  /** Its `database` is left aside: all are looked at. */
  readonly copy: CheckedCopy
  readonly assertions: readonly Assertion[]
  readonly jobs: number
  readonly phases: Phases
  readonly signal: AbortSignal
  readonly onDatabase: (name: string, ratio: number) => void
}

/**
 * The level `data` of a physical backup, in every database that takes connections: the catalogs can be read, heaps and
 * indexes are sound, and the user's own statements give what they should. There is no fingerprint to compare with: what
 * the files hold is vouched for by the checksums of the levels before. All is looked at, whatever was found before.
 */
export async function verifyCluster(options: ClusterDataOptions, recorder: LevelRecorder): Promise<void> {
  const { copy, assertions, phases, signal } = options
  const { server } = copy
  const databases = await recorder.look('databases', 'catalog-unreadable', signal, () =>
    whileAlive(server, 'databases', () => phases.time('catalogs', () => listDatabases(copy, signal))),
  )
  if (databases === null) return
  const names = new Set(databases.map(({ name }) => name))
  const others = [...new Set(assertions.map(({ database }) => database))].filter((name) => !names.has(name))
  const told = others.length === 0 ? '' : `; an assertion is for ${others.slice(0, 5).join(', ')}, which it has not got`
  recorder.pass('databases', `${databases.length}${told}`)
  for (const [index, database] of databases.entries()) {
    options.onDatabase(database.name, index / databases.length)
    await verifyDatabase(options, database, recorder)
  }
}

interface Database {
  readonly name: string
  /** Its collations sort here as they did there; null: nobody can tell. */
  readonly sameCollation: boolean | null
}

async function listDatabases({ server }: CheckedCopy, signal: AbortSignal): Promise<readonly Database[]> {
  // Versions of the default collation are known from PostgreSQL 15 on.
  const same =
    server.installation.major >= 15
      ? 'd.datcollversion is not distinct from pg_database_collation_actual_version(d.oid)'
      : 'null::boolean'
  return withSession(server.source, { database: 'template1', signal }, (session) =>
    session.query<Database>(
      `select datname as name, ${same} as "sameCollation" from pg_database d where datallowconn order by datname`,
    ),
  )
}

async function verifyDatabase(
  { copy, assertions, jobs, phases, signal }: ClusterDataOptions,
  { name, sameCollation }: Database,
  recorder: LevelRecorder,
): Promise<void> {
  const { server } = copy
  const of = ` of ${JSON.stringify(name)}`
  const part = (phase: string, check: string, cause: string, work: () => Promise<void>) =>
    recorder.look(check, cause, signal, () =>
      whileAlive(server, check, () => phases.time(phase, () => ofThisMachine(check, work))),
    )
  const one = { ...copy, database: name }
  const catalogs = `catalogs${of}`
  let foreign: string | null = null
  const seen = await part('catalogs', catalogs, 'catalog-unreadable', async () => {
    const facts = await catalogFacts(one, signal)
    if (facts.missing.length > 0) {
      const words = `this machine has no extension ${facts.missing.join(', ')}; install its package`
      throw new VerdictError('inconclusive', 'extension-missing', catalogs, words)
    }
    if (sameCollation === false || facts.collations.length > 0)
      foreign = [...(sameCollation === false ? ['its default'] : []), ...facts.collations].slice(0, 5).join(', ')
    recorder.pass(catalogs, `${facts.tables} tables, ${facts.indexes} indexes, ${facts.columns} columns`)
  })
  if (seen === null) return // what fails for want of the same thing would look like damage
  await part('amcheck', `amcheck${of}`, 'corruption', () =>
    asThere(foreign, `amcheck${of}`, () => amcheck(one, { jobs, signal, of }, recorder)),
  )
  await part('assertions', `assertions${of}`, 'assertion-failed', () => {
    const own = assertions.filter(({ database }) => database === name)
    return verifyAssertions({ copy: one, assertions: own, signal }, recorder)
  })
}

/** pg_amcheck came with PostgreSQL 14. */
async function amcheck(
  copy: CheckedCopy,
  { jobs, signal, of }: { readonly jobs: number; readonly signal: AbortSignal; readonly of: string },
  recorder: LevelRecorder,
): Promise<void> {
  const { major } = copy.server.installation
  if (major >= 14) await verifyIndexes({ copy, jobs, signal, of, isPhysical: true }, recorder)
  else recorder.pass(`amcheck${of}`, `PostgreSQL ${major} has no pg_amcheck`)
}

interface CatalogFacts {
  readonly tables: string
  readonly indexes: string
  readonly columns: string
  /** Extensions whose files this machine has not got. */
  readonly missing: readonly string[]
  /** Collations that sort in another version here. */
  readonly collations: readonly string[]
}

async function catalogFacts({ server, database }: CheckedCopy, signal: AbortSignal): Promise<CatalogFacts> {
  const found = await withSession(server.source, { database, signal }, (session) =>
    session.query<CatalogFacts>(
      `select (select count(*) from pg_class where relkind in ('r', 'p', 'm')) as tables,
         (select count(*) from pg_class where relkind in ('i', 'I')) as indexes,
         (select count(*) from pg_attribute where attnum > 0 and not attisdropped) as columns,
         (select coalesce(jsonb_agg(extname), '[]') from pg_extension
          where extname not in (select name from pg_available_extensions)) as missing,
         (select coalesce(jsonb_agg(collname), '[]') from pg_collation
          where collversion is distinct from pg_collation_actual_version(oid)
            and oid in (select unnest(indcollation) from pg_index)) as collations`,
    ),
  )
  const [facts] = found
  if (facts === undefined) throw new LifeboatError('server-error', 'the catalogs told nothing')
  return facts
}

/** An index in an order that this machine does not know looks corrupt, and is not. */
async function asThere(foreign: string | null, check: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (foreign === null || !(error instanceof VerdictError) || error.reason !== 'corruption') throw error
    const words = `collations have another version here than in the source (${foreign}), so that the order of indexes cannot be judged: ${error.message}`
    throw new VerdictError('inconclusive', 'collation-version', check, words)
  }
}

/** A library or locale that this machine has not got says nothing about the backup. */
async function ofThisMachine(check: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    const state = error.details?.sqlState
    if (/locale is incompatible with operating system|database locale/.test(error.message))
      throw new VerdictError('inconclusive', 'locale-missing', check, error.message)
    if (state === '58P01' && /access file|load library/.test(error.message))
      throw new VerdictError('inconclusive', 'library-missing', check, error.message)
    throw error
  }
}
