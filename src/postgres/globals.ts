import { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'
import { quoteLiteral } from './conninfo.ts'
import { beginsWith, nameOf, splitScript, type Token, tokens } from './sql-script.ts'

export interface ScratchGlobals {
  /** To be run one after another, outside a transaction. */
  readonly statements: readonly string[]
  /** Tablespaces that were given a place inside the scratch server, or left out where it cannot (before 15). */
  readonly tablespaces: readonly string[]
}

/** What pg_dumpall brackets its script with, so that psql runs no other command of its own in between. */
const brackets = /^\s*\\(restrict|unrestrict)\s/

/**
 * Makes the script of `pg_dumpall --globals-only` fit a scratch server:
 * - the bootstrap superuser exists there already, so its own CREATE ROLE, and nothing else, is left out;
 * - a tablespace would be made in production's directories: it gets an in-place location (15 and newer), or goes;
 * - `SET client_encoding` goes, since the statements travel as the driver's UTF-8.
 *
 * It is never given to psql: whoever can write to a repository could put `\\!` into it, and psql would run that.
 *
 * Source: https://www.postgresql.org/docs/current/runtime-config-developer.html (allow_in_place_tablespaces)
 *
 * @throws LifeboatError `artifact-invalid` for a psql command that pg_dumpall does not write
 */
export function globalsForScratch(script: string, bootstrapSuperuser: string, serverMajor: number): ScratchGlobals {
  const tablespaces: string[] = []
  const statements: string[] = []
  for (const part of splitScript(script)) {
    if (part.kind === 'meta') {
      if (brackets.test(withoutComments(part.text))) continue
      throw new LifeboatError('artifact-invalid', 'globals.sql holds a psql command, which pg_dumpall does not write')
    }
    const found = tokens(part.text)
    if (found.length === 0 || beginsWith(found, 'set', 'client_encoding')) continue
    if (beginsWith(found, 'create', 'role') && nameOf(found[2]) === bootstrapSuperuser) continue
    if (!aboutTablespace(found)) {
      statements.push(part.text)
      continue
    }
    if (beginsWith(found, 'create', 'tablespace')) tablespaces.push(nameOf(found[2]) ?? '')
    if (serverMajor < 15) continue
    if (!beginsWith(found, 'create', 'tablespace')) {
      statements.push(part.text)
      continue
    }
    // The only string constant is the path. (LOCATION may also be the name of the tablespace or of its owner.) Without
    // one the statement goes: better an error at its first use than a tablespace in production's directory.
    const path = found.find(({ kind }) => kind === 'string')
    if (path !== undefined)
      statements.push(part.text.slice(0, path.start) + quoteLiteral('') + part.text.slice(path.end))
  }
  const allow = tablespaces.length > 0 && serverMajor >= 15 ? ['SET allow_in_place_tablespaces = on'] : []
  return { statements: [...allow, ...statements], tablespaces }
}

/** Runs the statements; the first error ends it. */
export async function applyGlobals(session: Session, { statements }: ScratchGlobals): Promise<void> {
  for (const statement of statements) await session.query(statement)
}

function withoutComments(text: string): string {
  return text.replace(/^\s*(--[^\n]*\n\s*)*/, '')
}

/** A role may be called tablespace without quotes, so the word counts only where the grammar has it. */
function aboutTablespace(found: readonly Token[]): boolean {
  if (beginsWith(found, 'create', 'tablespace') || beginsWith(found, 'alter', 'tablespace')) return true
  return found.some((_, index) => beginsWith(found.slice(index, index + 2), 'on', 'tablespace'))
}

const bootstrapLine = /^-- Lifeboat: bootstrap superuser ("[^\n]*")\n/

/** Notes in the script who the bootstrap superuser is: nothing that pg_dumpall prints tells. The rest stays byte by byte. */
export function withBootstrapSuperuser(script: Buffer, name: string): Buffer {
  return Buffer.concat([Buffer.from(`-- Lifeboat: bootstrap superuser ${JSON.stringify(name)}\n`), script])
}

/** The name that `withBootstrapSuperuser` noted; `postgres` when there is no note. */
export function bootstrapSuperuserOf(script: string): string {
  const noted = bootstrapLine.exec(script)?.[1]
  return noted === undefined ? 'postgres' : String(JSON.parse(noted))
}

/** The roles that a globals script makes, in its order. */
export function rolesIn(script: string): readonly string[] {
  return splitScript(script).flatMap((part) => {
    const found = part.kind === 'sql' ? tokens(part.text) : []
    const name = beginsWith(found, 'create', 'role') ? nameOf(found[2]) : null
    return name === null ? [] : [name]
  })
}
