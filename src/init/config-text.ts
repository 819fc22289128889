import { basename } from 'node:path'
import { pathToFileURL } from 'node:url'
import { formatDuration } from '../config/units.ts'
import type { FoundDumps } from './dump-directories.ts'
import { type FoundServer, ownRole } from './server.ts'

/** What the configuration is made of. */
export interface Conclusions {
  readonly server: FoundServer | null
  readonly dumps: readonly FoundDumps[]
  /** Directory of the repository; null: nothing but watched directories. */
  readonly repository: string | null
}

/** Where the password is to be put that the server asks for. */
export const passwordFile = '/etc/lifeboat/postgres-password'

/** Where WAL would be archived. */
const wantedArchive = '/var/lib/postgresql/wal_archive'

/** So many watched directories are written; more is no finding but a mistake. */
export const mostWatches = 20

/** The text of a configuration with comments. No password is in it. Every name in it is untrusted, and safe to print. */
export function renderConfig({ server, dumps, repository }: Conclusions): string {
  const lines = [
    '# Written by `lifeboat init`; docs/configuration.md has every key. Then: lifeboat check',
    '',
    '# Name of the cluster: `cluster_name` on every metric, and the first folder in every repository.',
    `cluster: ${scalar(clusterName(server))}`,
    ...(repository === null ? [] : postgresLines(server)),
    ...repositoryLines(repository),
    ...(repository === null ? [] : objectiveLines),
    ...(repository === null || server === null ? [] : [...walLines(server), ...physicalLines(server)]),
    ...watchLines(dumps, repository === null),
  ]
  return `${lines.join('\n')}\n`
}

function clusterName(server: FoundServer | null): string {
  const own = server?.databases.filter(({ name }) => name !== 'postgres') ?? []
  return asLabel(server?.clusterName ?? '') || (own.length === 1 ? asLabel(own[0]?.name ?? '') : '') || 'main'
}

function postgresLines(server: FoundServer | null): readonly string[] {
  if (server === null) {
    return [
      '',
      '# No server was found. Fill in where it is, and make the role: docs/privileges.md.',
      'postgres:',
      '  host: /var/run/postgresql',
      '  port: 5432',
      `  user: ${ownRole}`,
      `  # passwordFile: ${passwordFile}`,
    ]
  }
  const { candidate, hasOwnRole, user, passwordFrom } = server
  const role = hasOwnRole ? ownRole : user
  const names = server.databases.map(({ name }) => scalar(name))
  return [
    '',
    ...(hasOwnRole ? [] : [`# A role of its own is better than ${scalar(user)}: docs/privileges.md makes one.`]),
    'postgres:',
    `  host: ${scalar(candidate.host)}`,
    `  port: ${candidate.port}`,
    `  user: ${scalar(role)}`,
    ...(passwordFrom === null
      ? []
      : [
          `  # The server asked for a password; it came from ${comment(passwordFrom)}, and is not copied. Put that of this role into this file, mode 0600.`,
          `  passwordFile: ${passwordFile}`,
        ]),
    ...(candidate.sslMode === 'prefer' ? [] : [`  sslMode: ${candidate.sslMode}`]),
    ...(candidate.database === 'postgres' ? [] : [`  maintenanceDatabase: ${scalar(candidate.database)}`]),
    '  # Without this list every database is dumped, new ones too.',
    `  # databases: [${names.slice(0, 50).join(', ')}]`,
  ]
}

function repositoryLines(repository: string | null): readonly string[] {
  const isOut = repository === null
  const path = pathToFileURL(repository ?? '/var/backups/lifeboat').href
  return [
    '',
    isOut
      ? "# For Lifeboat's own dumps, whose restored copy is compared row by row: docs/migration.md, step 3."
      : '# Where the backups go. Better another disk than that of the server; every further entry is a full copy.',
    ...['repositories:', `  - { name: local, url: ${scalar(path)} }`].map((line) => (isOut ? `# ${line}` : line)),
  ]
}

/** What the dumps can hold that are all that is not commented out: with the default every day would end in an alert. */
const objectiveLines: readonly string[] = [
  '',
  '# What was promised: alerts tell when it is missed. Dumps once a day can hold no less than 26h; with the WAL stored, minutes.',
  'objectives:',
  '  # How much recent work may be lost.',
  '  rpo: 26h',
  '  # How long a recovery may take.',
  '  rto: 4h',
]

/** Commented out: what is in an archive that somebody else uses is not ours to remove. */
function walLines({ archives, archive }: FoundServer): readonly string[] {
  const told =
    archive !== null
      ? [
          `# The server archives its WAL already, with lifeboat-archive, into ${comment(archive)}. With these lines it goes to`,
          '# the repository from there, and is removed from the archive when it is stored and that old: docs/wal.md.',
        ]
      : archives
        ? [
            '# The server archives its WAL already (archive_mode is on), with a command that is not of Lifeboat. Only one can: to',
            '# have Lifeboat do it instead, make this directory, and see what `lifeboat wal setup` would change: docs/wal.md.',
          ]
        : [
            '# The server does not archive its WAL (archive_mode is off). To have it archived, and stored in the repository, make this',
            '# directory, and see what `lifeboat wal setup` would change: docs/wal.md.',
          ]
  const directory = archive === null || /\p{Cc}/u.test(archive) ? wantedArchive : archive
  return ['', ...told, '# wal:', `#   archive: ${scalar(directory)}`, '#   keepInArchive: 2d']
}

/** Commented out as the WAL is, without which they are an error of the configuration. */
function physicalLines({ summarizesWal }: FoundServer): readonly string[] {
  const incremental =
    summarizesWal === true
      ? ['#   incremental: "0 */6 * * *"']
      : summarizesWal === false
        ? ['#   incremental: "0 */6 * * *"   # when the server has summarize_wal = on']
        : []
  return [
    '',
    '# With its WAL stored, physical backups bring the whole cluster back, to any moment since. The role needs REPLICATION, and a',
    '# line for the database `replication` in pg_hba.conf: docs/physical.md.',
    ...['# schedule:', '#   full: "0 3 * * *"', ...incremental],
  ]
}

function watchLines(dumps: readonly FoundDumps[], isAll: boolean): readonly string[] {
  if (dumps.length === 0) {
    const example = [
      'watch:',
      '  - directory: /var/backups/fill-in',
      '    pattern: "{database}_backup_{timestamp}{ext}"',
      '    maxAge: 26h',
    ]
    return [
      '',
      '# Directories in which a script of yours puts dumps. None was found: fill one in. It is only read.',
      ...example.map((line) => (isAll ? line : `# ${line}`)),
    ]
  }
  const taken = new Set(['local'])
  return [
    '',
    '# Dumps that other tools write. They are watched and tested, never changed: docs/external.md.',
    'watch:',
    ...dumps.slice(0, mostWatches).flatMap((found) => watchEntry(found, taken)),
  ]
}

function watchEntry(found: FoundDumps, taken: Set<string>): readonly string[] {
  const { directory, pattern, database, files, gapSeconds, maxAgeSeconds, source } = found
  const what = `${files} ${files === 1 ? 'file' : 'files'}${gapSeconds === null ? '' : `, usually ${formatGap(gapSeconds)} apart`}`
  const isNamed = pattern.includes('{database}')
  return [
    `  # ${what}${source === null ? '' : `; written by ${comment(source)}`}.`,
    `  - name: ${scalar(uniqueName(directory, taken))}`,
    `    directory: ${scalar(directory)}`,
    `    pattern: ${scalar(pattern)}`,
    ...(isNamed
      ? []
      : [
          ...(database === null ? ['    # Not known: fill in which database these are of.'] : []),
          `    database: ${scalar(database ?? 'unknown')}`,
        ]),
    ...(maxAgeSeconds === null
      ? ['    # Too few files tell how often they come: the newest may be so old.', '    maxAge: 26h']
      : [`    maxAge: ${roundedUp(maxAgeSeconds)}`]),
  ]
}

/** A gap in words. */
export function formatGap(seconds: number): string {
  const unit = seconds >= 7200 ? 3600 : seconds >= 120 ? 60 : 1
  return formatDuration(Math.max(1, Math.round(seconds / unit)) * unit * 1000)
}

/** Whole hours, or minutes where those are too coarse. */
function roundedUp(seconds: number): string {
  return seconds > 7200 ? `${Math.ceil(seconds / 3600)}h` : `${Math.max(1, Math.ceil(seconds / 60))}m`
}

function uniqueName(directory: string, taken: Set<string>): string {
  const base = asLabel(basename(directory)).slice(0, 58) || 'watch'
  let name = base
  for (let number = 2; taken.has(name); number += 1) name = `${base}-${number}`
  taken.add(name)
  return name
}

function asLabel(text: string): string {
  return text
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 63)
}

/** A text in YAML: as it is where that is plain, else in double quotes, with everything escaped that could move a cursor. */
function scalar(text: string): string {
  const isPlain = /^[A-Za-z/][A-Za-z0-9/._-]*$/.test(text) && !/^(?:true|false|null|yes|no|on|off|y|n)$/i.test(text)
  const isUrl = /^file:\/\/\/[A-Za-z0-9/._-]+$/.test(text)
  if (isPlain || isUrl) return text
  return JSON.stringify(text).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (one) =>
    [...Array(one.length).keys()].map((at) => `\\u${one.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  )
}

/** A text inside of a comment. */
function comment(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?')
}
