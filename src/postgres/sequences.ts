import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { type ConnectionSource, type Session, withSession } from './connection.ts'
import { decodeScript } from './encodings.ts'
import type { Installation } from './installations.ts'
import { dumpAsScript, listContents } from './restore.ts'
import { nameOf, splitScript, tokens } from './sql-script.ts'

export interface CompareSequencesOptions {
  readonly installation: Installation
  /** The unpacked dump. */
  readonly directory: string
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly source: ConnectionSource
  readonly database: string
  readonly signal: AbortSignal
}

/** A sequence's state as the dump sets it. `name` is qualified and quoted, as SQL wants it. */
export interface SequenceState {
  readonly name: string
  readonly lastValue: string
  readonly isCalled: boolean
}

/** Compares every sequence of a restored copy with what its dump sets. Gives the differences in words. */
export async function compareSequences(options: CompareSequencesOptions): Promise<readonly string[]> {
  const expected = await sequencesIn(options)
  if (expected.length === 0) return []
  return withSession(options.source, { database: options.database, signal: options.signal }, async (session) => {
    const wrong: string[] = []
    for (const { name, lastValue, isCalled } of expected) {
      const [found] = await session.query<{ last_value: string; is_called: boolean }>(
        `select last_value::text, is_called from ${name}`,
      )
      if (found?.last_value === lastValue && found.is_called === isCalled) continue
      wrong.push(
        `${name} is at ${found?.last_value}${found?.is_called === true ? '' : ' (not called)'} instead of ${lastValue}${isCalled ? '' : ' (not called)'}`,
      )
    }
    return wrong
  })
}

/**
 * The `setval` calls that a dump carries.
 *
 * @throws LifeboatError `artifact-invalid` when one of them is not there or not understood
 */
async function sequencesIn(options: CompareSequencesOptions): Promise<readonly SequenceState[]> {
  const entries = (await listContents(options)).filter(({ description }) => description.startsWith('SEQUENCE SET '))
  if (entries.length === 0) return []
  const list = join(options.folder, 'sequences.list')
  await writeFile(list, `${entries.map(({ line }) => line).join('\n')}\n`)
  const found = parseSetvals(
    await dumpAsScript({ ...options, extraArgs: [`--use-list=${list}`], decode: decodeScript }),
  )
  if (found.length === entries.length) return found
  throw new LifeboatError(
    'artifact-invalid',
    `the dump lists ${entries.length} sequences, but sets the value of ${found.length}`,
  )
}

/** Reads `SELECT pg_catalog.setval('public.users_id_seq', 42, true);` statements. */
export function parseSetvals(script: string): readonly SequenceState[] {
  return splitScript(script).flatMap(({ kind, text }) => {
    const found = kind === 'sql' ? tokens(text) : []
    const at = found.findIndex((token, index) => nameOf(token) === 'setval' && index > 0)
    if (at === -1) return []
    // setval ( 'name' , [-] number , true )
    const name = found[at + 2]
    const rest = text.slice(name?.end ?? 0)
    const match = /^\s*,\s*(-?\d+)\s*,\s*(true|false)\s*\)/.exec(rest)
    return name?.kind === 'string' && match !== null
      ? [{ name: name.value, lastValue: match[1] as string, isCalled: match[2] === 'true' }]
      : []
  })
}

/**
 * Sequences whose next value is taken already in the column that owns them. The source may have been like that (ids
 * inserted by hand), so this is a remark and no verdict. Columns of other types than numbers are not
 * looked at, nor foreign tables, which are somebody else's server.
 */
export async function sequencesBehind(session: Session): Promise<readonly string[]> {
  const owned = await session.query<{ sequence: string; relation: string; column: string }>(
    `select s.oid::regclass::text as sequence, d.refobjid::regclass::text as relation, quote_ident(a.attname) as column
     from pg_class s join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
       and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
     join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
     join pg_sequence q on q.seqrelid = s.oid
     join pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
     where s.relkind = 'S' and q.seqincrement > 0 and not q.seqcycle
       and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)`,
  )
  const behind: string[] = []
  for (const { sequence, relation, column } of owned) {
    const [row] = await session.query<{ behind: boolean | null }>(
      `select (select max(${column})::numeric from ${relation}) > last_value::numeric - case when is_called then 0 else 1 end as behind from ${sequence}`,
    )
    if (row?.behind === true) behind.push(sequence)
  }
  return behind
}
