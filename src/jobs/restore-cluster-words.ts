import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { shellWord } from '../domain/shell-word.ts'
import type { Recovered } from '../physical/recover.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { OsUser } from '../postgres/programs.ts'

/** Where a recovery has come to. */
export function reachedWords({ lsn, lastCommitAt, newTimeline, stoppedAt }: Recovered, asked: string): string {
  const commit = lastCommitAt === null ? 'no transaction was replayed' : `last commit ${lastCommitAt.toISOString()}`
  const state = newTimeline === null ? 'paused there' : `promoted to timeline ${newTimeline}`
  return `came to ${formatLsn(lsn)}, ${commit}; asked for was ${asked}; ${stoppedAt ?? 'that is the end of the WAL'}; ${state}`
}

/** What starts a server that was left for somebody to start. */
export function startCommand({
  dataDirectory,
  folder,
  configFile,
  owner,
  installation,
}: {
  readonly dataDirectory: string
  /** That the log is written to. */
  readonly folder: string
  readonly configFile: string
  readonly owner: OsUser | null
  readonly installation: Installation
}): string {
  const log = join(folder, 'server.log')
  const words = [programPath(installation, 'pg_ctl'), `--pgdata=${dataDirectory}`, `--log=${log}`].map(shellWord)
  const options = shellWord(`--options=-c ${shellWord(`config_file=${configFile}`)}`)
  const start = [...words, options, 'start'].join(' ')
  return owner === null ? start : `runuser -u ${shellWord(owner.name)} -- ${start}`
}

/** Without a database psql takes the one of the role's name, which there seldom is. */
export function connectCommand(
  { host, port, user }: Pick<ConnectionSource, 'host' | 'port' | 'user'>,
  database: string,
): string {
  return `psql --host=${shellWord(host)} --port=${port} --username=${shellWord(user)} --dbname=${shellWord(database)}`
}

/** Files that are whole are not thrown away: they may have taken hours. */
export function withNextStep(error: unknown, to: string): unknown {
  if (!(error instanceof LifeboatError)) return error
  const { code, message, hint, details } = error
  const rest = `what is in ${to} is not to be used: the same command goes on with it, or remove it`
  return new LifeboatError(code, message, {
    hint: hint === undefined ? rest : `${hint}; ${rest}`,
    cause: error,
    ...(details === undefined ? {} : { details }),
  })
}

export function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`
}
