import { resolve } from 'node:path'
import { isWatchOnly, type ValidatedConfig } from '../config/validated.ts'
import { parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { targetTime } from '../domain/recovery-plan.ts'
import { type RestoreWish, restoreParams } from '../domain/restore-wish.ts'
import { shellWord } from '../domain/shell-word.ts'
import type { RestoredDirectory, Run } from '../runner/job.ts'
import { type CliContext, oneOf } from './command.ts'
import { errorText } from './error-text.ts'
import { oneLine } from './format.ts'
import { targetHelp, targetOf, targetOptions, timelineOf } from './plan.ts'
import { previewRestore } from './restore-preview.ts'
import { runJob } from './run-job.ts'

/** What only the restore of a cluster has. */
export const clusterOptions = {
  ...targetOptions,
  timeline: { type: 'string' },
  backup: { type: 'string' },
  'system-identifier': { type: 'string' },
  'tablespace-map': { type: 'string', multiple: true },
  start: { type: 'boolean' },
  'no-start': { type: 'boolean' },
  action: { type: 'string' },
  'missing-is-end': { type: 'boolean' },
  'os-user': { type: 'string' },
  'dry-run': { type: 'boolean' },
} as const

export const clusterHelp: readonly (readonly [flag: string, meaning: string])[] = [
  [
    '-t, --to DIRECTORY',
    'the new data directory, which must not exist or be empty; a path: ./NAME for one that is here',
  ],
  ...targetHelp.map(([flag, meaning]) => [flag, flag === '--latest' ? `${meaning} (default)` : meaning] as const),
  ['BACKUP-ID, --backup ID', 'begin from this full or incremental backup (default: the newest that will do)'],
  ['-r, --repository NAME', 'from this repository only (default: the first that can)'],
  ['--timeline N', "on this timeline (default: the server's, or the newest of which there is WAL)"],
  ['--system-identifier ID', 'of this cluster, where backups of several are stored and the server cannot be asked'],
  ['--tablespace-map OLD=NEW', 'the new directory of a tablespace, by its old one or its oid; for each tablespace'],
  ['--start | --no-start', 'start a server, lead it to the target and leave it running (default), or print how to'],
  ['--action promote | pause', 'at the target: take writes (default), or wait there, to be looked at'],
  ['--missing-is-end', 'with --latest: end before WAL that is missing, though there is more after it'],
  ['--os-user NAME', 'for root: whose the files are to be (default: who owns the directory, or postgres)'],
  ['--dry-run', 'tell what would be done, and whether it can be'],
]

type Values = {
  readonly [name in keyof typeof clusterOptions]?: string | boolean | readonly string[] | undefined
} & {
  readonly at?: string | undefined
  readonly lsn?: string | undefined
  readonly name?: string | undefined
  readonly latest?: boolean | undefined
  readonly immediate?: boolean | undefined
  readonly timeline?: string | undefined
  readonly backup?: string | undefined
  readonly action?: string | undefined
  readonly 'tablespace-map'?: readonly string[] | undefined
  readonly 'system-identifier'?: string | undefined
  readonly 'os-user'?: string | undefined
  readonly to?: string | undefined
  readonly repository?: string | undefined
  readonly json?: boolean | undefined
  readonly verbose?: boolean | undefined
}

/** Options that make sense for a dump alone. */
const dumpOnly = [
  'database',
  'replace',
  'host',
  'port',
  'user',
  'password-file',
  'no-owner',
  'no-compare',
  'force-foreign',
] as const

/**
 * Whether the whole cluster is to be restored: a path is no usual name of a database, and a moment, a place or a tablespace
 * is nothing that a dump has.
 */
export function isOfCluster(values: object, backup: string | undefined): boolean {
  const { to } = values as Values
  const given = Object.keys(clusterOptions).some((name) => name in values)
  const type = backup === undefined ? null : (parseBackupId(backup)?.type ?? null)
  return given || to?.includes('/') === true || type === 'full' || type === 'incremental'
}

/** @throws LifeboatError `usage-invalid` for what does not go together */
export function wishFrom(
  values: Values,
  backup: string | undefined,
  now: Date,
): { wish: RestoreWish; note: string | null } {
  const mixed = dumpOnly.find((name) => name in values)
  if (mixed !== undefined)
    throw new LifeboatError(
      'usage-invalid',
      `--${mixed} is for the restore of a dump, and this is one of the whole cluster`,
      {
        hint: 'a dump is restored into a database, whose name is given to --to; a cluster into a directory, which is given as a path',
      },
    )
  const { to } = values
  if (to === undefined || !to.includes('/'))
    throw new LifeboatError(
      'usage-invalid',
      to === undefined ? 'where to? give a directory: --to' : `${JSON.stringify(to)} is no path of a directory`,
      { hint: to === undefined ? 'e.g. --to /var/lib/postgresql/15/restored' : `for one that is here: --to ./${to}` },
    )
  if (values.start === true && values['no-start'] === true)
    throw new LifeboatError('usage-invalid', '--start and --no-start exclude one another')
  if (backup !== undefined && values.backup !== undefined && backup !== values.backup)
    throw new LifeboatError('usage-invalid', 'two backups are named', { hint: 'give one' })
  const chosen = backup ?? values.backup ?? null
  const type = chosen === null ? 'full' : parseBackupId(chosen)?.type
  if (type !== 'full' && type !== 'incremental')
    throw new LifeboatError('usage-invalid', `${chosen} is no physical backup`, {
      hint: type === 'dump' ? 'a dump is restored into a database: --to NAME' : '`lifeboat list` shows them',
    })
  const asked = targetOf(values, now)
  const wish = {
    to: resolve(to),
    target: asked?.target ?? { kind: 'latest' as const },
    timeline: timelineOf(values.timeline),
    backup: chosen,
    repository: values.repository ?? null,
    systemIdentifier: systemOf(values['system-identifier']),
    tablespaces: (values['tablespace-map'] ?? []).map(mapping),
    start: values['no-start'] !== true,
    action: oneOf('--action', values.action, ['promote', 'pause'] as const) ?? 'promote',
    missingIsEnd: values['missing-is-end'] === true,
    osUser: values['os-user'] ?? null,
  }
  restoreParams(wish) // complains now
  return { wish, note: asked?.note ?? null }
}

/** Gives the exit code. */
export async function runClusterRestore(
  config: ValidatedConfig,
  values: Values,
  { backup, context }: { readonly backup: string | undefined; readonly context: CliContext },
): Promise<number> {
  if (isWatchOnly(config))
    throw new LifeboatError('config-invalid', 'no repository is configured: lifeboat only watches', {
      hint: 'set repositories',
    })
  const { wish, note } = wishFrom(values, backup, context.clock.now())
  const json = values.json === true
  if (values['dry-run'] === true) return previewRestore(config, wish, { note, json, context })
  if (note !== null) context.err.write(`note: ${oneLine(note)}${again(wish.target)}\n`)
  return runJob(
    {
      config,
      verbose: values.verbose === true,
      job: 'restore',
      params: restoreParams(wish),
      report: (run) => report(run, { wish, json }, context),
    },
    context,
  )
}

/** What a moment is called that is the same later, when the restore is gone on with. */
function again(target: RestoreWish['target']): string {
  return target.kind === 'time' ? `; the same moment at any time: --at ${shellWord(targetTime(target))}` : ''
}

function report(
  run: Run,
  { wish, json }: { readonly wish: RestoreWish; readonly json: boolean },
  { out, err }: CliContext,
): void {
  if (json) out.write(`${JSON.stringify(run, null, 2)}\n`)
  else if (run.failure?.code === 'cancelled')
    err.write(
      errorText({ hint: `the same command goes on with what is left in ${wish.to}, if anything is`, ...run.failure }),
    )
  else if (run.failure !== null) err.write(errorText(run.failure))
  else
    for (const { backupId, restored, warnings = [] } of run.items) {
      if (restored !== undefined)
        out.write(`restored ${backupId} into ${oneLine(restored.directory)}\n${told(restored)}`)
      for (const warning of warnings) err.write(`  warning: ${oneLine(warning)}\n`)
    }
}

function told(restored: RestoredDirectory): string {
  const { directory, asked, lsn, timeline, lastCommitAt, stoppedAt, newTimeline, start, connect } = restored
  const lines =
    lsn === null
      ? [`asked:   ${asked}, which the server goes to when it is started`, `start:   ${start}`]
      : [
          `asked:   ${asked}`,
          `reached: ${lsn} on timeline ${timeline}; last commit ${lastCommitAt ?? 'none in what was replayed'}`,
          `         ${stoppedAt ?? 'the end of the WAL'}`,
          newTimeline === null
            ? 'state:   paused, read-only; select pg_wal_replay_resume() ends the recovery here'
            : `state:   promoted, on timeline ${newTimeline}; it archives nothing, and listens on its socket alone`,
          `connect: ${connect}`,
        ]
  return lines
    .concat(`then:    docs/restore.md says how ${directory} goes into use`)
    .map((line) => `  ${oneLine(line)}\n`)
    .join('')
}

function mapping(text: string): readonly [string, string] {
  // A directory may hold the sign as well; the new one begins with a slash.
  const at = text.search(/=\.{0,2}\//)
  if (at <= 0)
    throw new LifeboatError('usage-invalid', `--tablespace-map cannot be ${JSON.stringify(text)}`, {
      hint: 'OLD=NEW: its old directory or its oid, and the path of a new one',
    })
  return [text.slice(0, at), resolve(text.slice(at + 1))]
}

function systemOf(text: string | undefined): string | null {
  if (text === undefined || /^[1-9]\d{0,19}$/.test(text)) return text ?? null
  throw new LifeboatError('usage-invalid', `${JSON.stringify(text)} is no system identifier`, {
    hint: 'a number, as pg_controldata tells it',
  })
}
