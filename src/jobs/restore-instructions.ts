import { type Artifact, isEncrypted, isEncryptedArtifact, plainName } from '../domain/backup.ts'
import { settingsOption } from '../postgres/connection.ts'
import { restoreSettings } from '../postgres/restore.ts'
import { suffixedName } from '../postgres/swap-databases.ts'

export interface InstructionFacts {
  readonly backupId: string
  readonly cluster: string
  readonly database: string
  readonly serverVersion: string
  readonly serverMajor: number
  readonly clientMajor: number
  readonly snapshotTime: string
  readonly bootstrapSuperuser: string
  /** Every artifact but RESTORE.md itself. */
  readonly artifacts: readonly Artifact[]
}

/**
 * The RESTORE.md of a dump: how a person with `tar`, `sha256sum`, `psql` and `pg_restore` gets the data back, with the
 * exact commands for this backup. A test follows them.
 */
export function restoreInstructions(facts: InstructionFacts): string {
  const sums = facts.artifacts.map(({ name, stored }) => `${stored.sha256}  ${name}`).join('\n')
  const name = JSON.stringify(facts.database)
  return `# Restore backup ${facts.backupId}

A dump of the database ${name} of the cluster ${JSON.stringify(facts.cluster)}, as it was at ${facts.snapshotTime},
from PostgreSQL ${facts.serverVersion}. Everything committed before that moment is in it.

You need: a copy of this folder, \`sha256sum\`, ${isEncrypted(facts) ? '`age` and a private key that it was encrypted for, ' : ''}\`tar\`, and the client programs of PostgreSQL ${facts.clientMajor} or newer
(\`psql\`, \`pg_restore\`). Restore into a server of PostgreSQL ${facts.serverMajor} or newer.

## 0. Work on a copy, as the right user

Never work in the repository: what is unpacked there gets in the way of Lifeboat, and a slip costs a backup. Begin in this
folder, as a user that may read it (root, or the one that Lifeboat runs as). The copy needs room for the folder and
once more for the unpacked dump${isEncrypted(facts) ? ', and once more for the decrypted files' : ''}; set TMPDIR where /tmp has not got that.

\`\`\`sh
work=$(mktemp -d)
cp -R . "$work/backup"
cd "$work/backup"
\`\`\`

From here on be a superuser of the target server; PGHOST, PGPORT, PGUSER and PGPASSFILE say which server and who. On the
server's own machine that is most often the OS user postgres. To go on as that one, as root:
\`chown -R postgres "$work"\`, then \`runuser -u postgres bash\`.

## 1. Check that every byte is there

\`\`\`sh
sha256sum --check <<'SUMS'
${sums}
SUMS
\`\`\`
${decryptSection(facts.artifacts)}
## 2. Unpack

\`\`\`sh
mkdir dump
tar --extract --file=dump.tar --directory=dump
pg_restore --list dump > contents.txt
\`\`\`

## 3. Roles, memberships and settings of the whole cluster

On a new server, before the first database. It says that the role ${JSON.stringify(facts.bootstrapSuperuser)} exists already: that is as it
should be. Any other error deserves a look. On a server in use that has its roles leave this step out: it sets their
passwords and settings back. Tablespaces need their directories to exist; leave their lines out if
you do not want them, and add --no-tablespaces in step 4.

\`\`\`sh
psql --no-psqlrc --dbname=postgres --file=globals.sql
\`\`\`

## 4. The database

It is made under its own name, with its owner, encoding, locale, settings and privileges. A database of that name must
not exist. ${
    onEveryServer.has(facts.database) ? 'Every new server has an empty one:' : 'If there is one, stop what uses it and'
  } put it aside, and never drop it before you have looked at the restored one. This
ends its sessions and renames it; if one was faster and came back, do it again.

\`\`\`${onEveryServer.has(facts.database) ? 'sh' : 'bash'}
psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=template1 <<'SQL'
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${sqlName(facts.database, "'")};
ALTER DATABASE ${sqlName(facts.database, '"')} RENAME TO ${sqlName(suffixedName(facts.database, 'before_restore'), '"')};
SQL
\`\`\`

Then restore. The options keep the database's own settings, such as a statement_timeout, from disturbing it.

\`\`\`sh
export PGOPTIONS='${settingsOption(restoreSettings(facts.serverMajor))}'
pg_restore --create --exit-on-error --jobs=4 --dbname=template1 dump
\`\`\`

## 5. Look before you use it

\`fingerprint.json\` holds the row count and a hash of every table at the moment of the dump. Count some tables and compare,
then run ANALYZE, since statistics are not restored. At the end remove the copy: \`rm -r "$work"\`, as root.
`
}

function decryptSection(artifacts: readonly Artifact[]): string {
  const encrypted = artifacts.filter(isEncryptedArtifact)
  if (encrypted.length === 0) return ''
  const commands = encrypted.map((one) => `age -d -i "$key" -o ${plainName(one)} ${one.name}`)
  return `
Then decrypt. Without the private key of one of its recipients nobody can: the sums above say no more than that these are the
files. Put the path of the key's file for key.txt; what it decrypts is as confidential as the database.

\`\`\`sh
key=\${LIFEBOAT_KEY:-key.txt}
${commands.join('\n')}
\`\`\`
`
}

/** initdb makes a database of this name, so that it exists on every new server. */
const onEveryServer = new Set(['postgres'])

/**
 * A name as an identifier (`"`) or as a literal (`'`), in printable ASCII without a backtick: so it can neither end the block
 * that it stands in nor depend on the encoding of a terminal.
 * Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS-UESCAPE
 */
function sqlName(name: string, quote: '"' | "'"): string {
  const doubled = name.replaceAll(quote, quote + quote)
  if (/^[ !-[\]-_a-~]*$/.test(name)) return `${quote}${doubled}${quote}`
  const escaped = doubled.replaceAll('\\', '\\\\').replace(/[^ -_a-~]/gu, (character) => {
    const code = (character.codePointAt(0) ?? 0).toString(16)
    return code.length > 4 ? `\\+${code.padStart(6, '0')}` : `\\${code.padStart(4, '0')}`
  })
  return `U&${quote}${escaped}${quote}`
}
