import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { quoteIdentifier } from './conninfo.ts'
import type { Installation } from './installations.ts'
import { dumpAsScript, listContents } from './restore.ts'
import { nameOf, splitScript, tokens } from './sql-script.ts'

/** Entries of a dump that belong to the database itself: pg_restore carries them out with `--create` alone. */
const ofDatabase = /^(DATABASE|DATABASE PROPERTIES|ACL - DATABASE|COMMENT - DATABASE|SECURITY LABEL - DATABASE) /

/**
 * The statements that make a dump's database (encoding, locale, owner, settings, privileges, comment), for another
 * name. `pg_restore --create` knows the original name only, and without it all of this is lost.
 *
 * @throws LifeboatError `usage-invalid` for a database whose name holds a line break: pg_restore writes no script for it
 */
export async function databaseStatements(options: {
  readonly installation: Installation
  /** The unpacked dump. */
  readonly directory: string
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  readonly from: string
  readonly to: string
  /** pg_restore's own options, such as --no-owner. */
  readonly extraArgs: readonly string[]
}): Promise<readonly string[]> {
  if (/[\r\n]/.test(options.from)) {
    throw new LifeboatError(
      'usage-invalid',
      `a database whose name holds a line break cannot be restored under another name: ${JSON.stringify(options.from)}`,
      {
        hint: "restore it under its own name, on another server if need be, with the commands of the backup's RESTORE.md",
      },
    )
  }
  const entries = (await listContents(options)).filter(({ description }) => ofDatabase.test(description))
  const list = join(options.folder, 'database.list')
  await writeFile(list, `${entries.map(({ line }) => line).join('\n')}\n`)
  const script = await dumpAsScript({ ...options, extraArgs: ['--create', `--use-list=${list}`, ...options.extraArgs] })
  return renameDatabase(script, options.from, options.to)
}

/** The statements about a database in a script, with its name replaced; session settings and psql commands are left out. */
export function renameDatabase(script: string, from: string, to: string): readonly string[] {
  return splitScript(script).flatMap(({ kind, text }) => {
    if (kind !== 'sql') return []
    const found = tokens(text)
    const at = found.findIndex((token, index) => {
      if (index === 0 || token.kind !== 'identifier' || token.value !== 'database') return false
      // ALTER ROLE database IN DATABASE … : that IN is not a name, which would be quoted.
      const [after] = found.slice(index + 1)
      return nameOf(after) === from && (after?.kind === 'quoted' || from !== 'in')
    })
    const name = found[at + 1]
    if (at === -1 || name === undefined) return []
    return [text.slice(0, name.start) + quoteIdentifier(to) + text.slice(name.end)]
  })
}
