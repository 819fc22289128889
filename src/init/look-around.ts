import { statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../clock.ts'
import { loadConfig } from '../config/load.ts'
import { serverCandidates } from './candidates.ts'
import { formatGap, mostWatches, passwordFile, renderConfig } from './config-text.ts'
import { type DumpJob, findDumpJobs } from './crontabs.ts'
import { type FoundDumps, findDumps } from './dump-directories.ts'
import { type FoundServer, findPrograms, findServer, placeOf } from './server.ts'

export interface LookOptions {
  /** Put before the usual places, for tests. Paths that are found in them, or asked for, are taken as they are. */
  readonly root?: string
  /** Port of localhost on which a server may be; for tests. */
  readonly localPort?: number
  readonly dsn: string | null
  readonly lookIn: readonly string[]
  readonly watchOnly: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  readonly osUser: string
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** One line of the account. `note`: what follows from it, or what could not be looked at. */
export interface Finding {
  readonly area: 'server' | 'programs' | 'cron' | 'dumps' | 'repository'
  readonly status: 'found' | 'note'
  /** Untrusted: names may hold anything. */
  readonly what: string
}

export interface Surroundings {
  readonly findings: readonly Finding[]
  /** YAML that the loader accepts. */
  readonly config: string
  /** It names a file that holds a secret. */
  readonly namesSecret: boolean
}

const usualPlaces = [
  '/var/backups',
  '/var/lib/postgresql/backups',
  '/backup',
  '/backups',
  '/srv/backup',
  '/srv/backups',
  '/var/lib/autopostgresqlbackup',
]
/** More would hide what matters. */
const mostLines = 50
const repositoryPlace = '/var/backups/lifeboat'

/**
 * Looks at the server, the crontabs, and the directories with dumps, changes nothing, and makes a configuration of what it
 * finds.
 *
 * @throws LifeboatError `usage-invalid` for a wrong connection string; the signal's reason
 */
export async function lookAround(options: LookOptions): Promise<Surroundings> {
  const { root = '/', dsn, lookIn, watchOnly, env, osUser, clock, signal } = options
  const localPort = options.localPort ?? 5432
  const candidates = watchOnly ? [] : await serverCandidates({ dsn, env, root, localPort })
  const { server, troubles: refusals } = await findServer(candidates, { env, osUser, signal })
  const programs = await findPrograms(server?.major ?? null)
  const cron = await findDumpJobs(root)
  signal.throwIfAborted()
  const { dumps, troubles: closed } = await findDumps({
    usual: usualPlaces.map((place) => join(root, place)),
    asked: lookIn,
    jobs: cron.jobs,
    databases: server?.databases.map(({ name }) => name) ?? [],
    clock,
    signal,
  })
  const writable = dumps.filter(({ directory }) => !/\p{Cc}/u.test(directory))
  const unnamed = dumps.filter(({ directory }) => /\p{Cc}/u.test(directory))
  // Without a server but with dumps: what is there can be watched from the first day on.
  const repository = watchOnly || (server === null && writable.length > 0) ? null : repositoryPlace
  const config = renderConfig({ server, dumps: writable, repository })
  // The file for the password need not be there yet: a variable stands in for it.
  await loadConfig({ text: config, env: { LIFEBOAT_POSTGRES_PASSWORD: 'unknown' } })
  const found = (area: Finding['area'], lines: readonly string[]): Finding[] =>
    lines.map((what) => ({ area, status: 'found', what }))
  const note = (area: Finding['area'], lines: readonly string[]): Finding[] =>
    lines.map((what) => ({ area, status: 'note', what }))
  const findings = [
    ...(server === null ? [] : found('server', serverLines(server))),
    ...note('server', refusals),
    ...(watchOnly || server !== null
      ? []
      : note('server', ['no server was found: give it with --dsn, or fill in postgres'])),
    ...found('programs', programs.facts),
    ...note('programs', programs.troubles),
    ...found('cron', cron.jobs.map(jobLine)),
    ...note('cron', cron.troubles),
    ...found('dumps', dumps.slice(0, mostLines).map(dumpLine)),
    ...note('dumps', [
      ...closed,
      ...unnamed.map(
        ({ directory }) => `${directory} has a name that no configuration can hold: rename it to have it watched`,
      ),
      ...(dumps.length > mostLines ? [`${dumps.length - mostLines} more places have dumps`] : []),
      ...(dumps.length === 0 ? ['no dumps were found: name their directory with --look-in, or fill in watch'] : []),
      ...(writable.length > mostWatches
        ? [`only the ${mostWatches} directories with the most files are in the configuration`]
        : []),
    ]),
    ...(repository === null
      ? note('repository', ['no repository: lifeboat only watches, and takes no dumps of its own'])
      : await repositoryLines(repository, server)),
  ]
  signal.throwIfAborted()
  return { findings, config, namesSecret: repository !== null && server?.passwordFrom != null }
}

function serverLines({
  candidate,
  version,
  user,
  databases,
  isSuperuser,
  hasOwnRole,
  passwordFrom,
  archives,
  archive,
}: FoundServer): string[] {
  const names = databases.map(({ name, bytes }) => `${name} (${formatMiB(bytes)})`)
  return [
    `PostgreSQL ${version} at ${placeOf(candidate)}, as ${user}${isSuperuser ? ', a superuser' : ''}`,
    `databases: ${names.slice(0, 50).join(', ')}${names.length > 50 ? `, and ${names.length - 50} more` : ''}`,
    ...(passwordFrom === null
      ? []
      : [
          `it asks for a password; the one used was from ${passwordFrom}, and is not copied: put that of the role into ${passwordFile}`,
        ]),
    ...(hasOwnRole ? ['the role lifeboat is there'] : []),
    ...(archives
      ? [
          `it archives its WAL, ${archive === null ? 'with a command that is not of lifeboat' : `into ${archive}, with lifeboat-archive`}`,
        ]
      : []),
  ]
}

function jobLine({ source, schedule, calls }: DumpJob): string {
  const what = calls.slice(0, 5).map(({ program, database, directory }) => {
    const of = program === 'pg_dumpall' ? 'every database' : (database ?? 'databases that are known only when it runs')
    return `${program} of ${of}${directory === null ? '' : ` into ${directory}`}`
  })
  return `${source}${schedule === null ? '' : ` (${schedule})`}: ${what.join('; ')}${calls.length > 5 ? '; …' : ''}`
}

function dumpLine({ directory, files, pattern, newest, gapSeconds }: FoundDumps): string {
  const rhythm = gapSeconds === null ? '' : `, usually ${formatGap(gapSeconds)} apart`
  return `${directory}: ${files} of ${pattern}${rhythm}, the newest of ${newest.toISOString().slice(0, 16)}Z`
}

async function repositoryLines(repository: string, server: FoundServer | null): Promise<readonly Finding[]> {
  const free = await freeBytes(repository)
  const needed = server?.databases.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
  const room = free === null ? '' : `, where ${formatMiB(free)} are free`
  return [
    { area: 'repository', status: 'found', what: `backups would go to ${repository}${room}` },
    ...(free !== null && free < needed
      ? [
          {
            area: 'repository',
            status: 'note',
            what: `the databases have ${formatMiB(needed)}: choose a larger place`,
          } as const,
        ]
      : []),
  ]
}

/** Of the nearest directory that is there; null where it cannot be asked. */
async function freeBytes(path: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(path)
    return bavail * bsize
  } catch {
    return path === '/' ? null : freeBytes(dirname(path))
  }
}

function formatMiB(bytes: number): string {
  return bytes < 10 * 2 ** 30 ? `${Math.ceil(bytes / 2 ** 20)} MiB` : `${Math.round(bytes / 2 ** 30)} GiB`
}
