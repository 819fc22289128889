import { parseDuration } from '../config/units.ts'
import { createCore } from '../core.ts'
import { isBackupId, isExternalId } from '../domain/backup.ts'
import { errorCodes, type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { Repository } from '../repository/repository.ts'
import {
  type CliContext,
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  parse,
} from './command.ts'
import { errorText } from './error-text.ts'
import { formatTime } from './format.ts'
import { filesOf, type WatchedFiles } from './watched-files.ts'

const longestReason = 500

export const holdCommand: Command = {
  name: 'hold',
  summary: 'keep a backup from being expired, or release it',
  usage: 'hold BACKUP-ID [--reason TEXT] [--until DATE] [--release] [--repository NAME] [--json]',
  options: [
    ['BACKUP-ID', 'the backup; a hold that it has already is replaced'],
    ['--reason TEXT', 'why, for whoever asks later'],
    [
      '--until DATE',
      'when the hold ends by itself, UTC: 2026-12-31 (all of that day), a full time, or a duration: 90d',
    ],
    ['--release', 'end the hold'],
    ['-r, --repository NAME', 'in this repository only (default: wherever the backup is)'],
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values, positionals } = parse(
      'hold',
      argv,
      {
        ...configOption,
        ...jsonOption,
        reason: { type: 'string' },
        until: { type: 'string' },
        release: { type: 'boolean' },
        repository: { type: 'string', short: 'r' },
      },
      1,
    )
    const [id] = positionals
    if (id === undefined || !(isBackupId(id) || isExternalId(id))) {
      const what = id === undefined ? 'which backup? give its id' : `${JSON.stringify(id)} is not a backup id`
      throw new LifeboatError('usage-invalid', what, { hint: '`lifeboat list` shows them' })
    }
    const { reason = '', release = false } = values
    if (release && (values.reason !== undefined || values.until !== undefined))
      throw new LifeboatError('usage-invalid', '--release goes without --reason and --until')
    if (reason.length > longestReason)
      throw new LifeboatError('usage-invalid', `--reason has over ${longestReason} characters`)
    const until = values.until === undefined ? null : momentOf(values.until, context.clock.now())
    const config = await configOf(values, context)
    chooseRepositories([...config.repositories, ...config.watch], values.repository)
    const { clock, version } = context
    const core = await createCore(config, { clock, log: context.makeLog('silent', 'err'), version: version.version })
    try {
      const places: Place[] = [
        ...core.repositories.map(({ repository }) => repository),
        ...config.watch.map((watch) => filesOf(watch, core.history)),
      ]
      const work = release
        ? (one: Place) => endHold(one, id, context)
        : (one: Place) => beginHold(one, id, { reason, until }, context)
      const chosen = chooseRepositories(places, values.repository).filter((one) => isOf(one, id))
      return await everywhere(chosen, id, work, { ...context, json: values.json === true })
    } finally {
      await core.close()
    }
  },
}

/** A repository, or a watched directory, whose holds are kept in the state file. */
type Place = Repository | WatchedFiles

function isOf(place: Place, id: string): boolean {
  return isExternalId(id) === !(place instanceof Repository)
}

/** What was done in one repository. */
interface Done {
  readonly repository: string
  readonly backup: string
  readonly held: boolean
  readonly until: Date | null
}

/** Does it in each repository that has the backup; one that fails keeps no other from it. Gives the exit code. */
async function everywhere(
  repositories: readonly Place[],
  id: string,
  work: (repository: Place) => Promise<Done | null>,
  { signal, out, err, json }: CliContext & { readonly json: boolean },
): Promise<number> {
  const failures: Failure[] = []
  const done: Done[] = []
  for (const repository of repositories) {
    try {
      const what = await work(repository)
      if (what !== null) done.push(what)
    } catch (error) {
      signal.throwIfAborted()
      failures.push(toFailure(error))
    }
  }
  if (done.length === 0 && failures.length === 0)
    throw new LifeboatError('not-found', `there is no backup ${id}, or it is not held`, {
      hint: '`lifeboat list` shows them',
    })
  if (json) out.write(`${JSON.stringify(done, null, 2)}\n`)
  else
    for (const { backup, repository, held, until } of done) {
      const ends = until === null ? '' : ` until ${formatTime(until)}`
      out.write(`${backup} is ${held ? 'held' : 'not held'} in ${repository}${held ? ends : ' any more'}\n`)
    }
  for (const failure of failures) err.write(`lifeboat: ${errorText(failure)}`)
  return failures[0] === undefined ? 0 : errorCodes[failures[0].code].exit
}

/** Null where there is no such backup. */
async function beginHold(
  repository: Place,
  backup: string,
  { reason, until }: { readonly reason: string; readonly until: Date | null },
  { clock, user, version, signal }: CliContext,
): Promise<Done | null> {
  const isThere =
    repository instanceof Repository
      ? (await repository.headManifest(backup, { signal })) !== null
      : await repository.has(backup, { clock, signal })
  if (!isThere) return null
  const [heldAt, ends] = [clock.now().toISOString(), until?.toISOString() ?? null]
  const body = { backupId: backup, heldAt, heldBy: user, reason, until: ends, lifeboat: version.version }
  await repository.hold(body, { signal })
  return { repository: repository.name, backup, held: true, until }
}

/** Null where it was not held. */
async function endHold(repository: Place, backup: string, { signal }: CliContext): Promise<Done | null> {
  const was = await repository.releaseHold(backup, { signal })
  return was ? { repository: repository.name, backup, held: false, until: null } : null
}

/** @throws LifeboatError `usage-invalid` on what is no moment, or a past one */
function momentOf(text: string, now: Date): Date {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(text)
    ? new Date(new Date(`${text}T00:00:00Z`).getTime() + 86_400_000)
    : /^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/.test(text)
      ? new Date(text)
      : new Date(now.getTime() + durationOf(text))
  // JavaScript takes the 31st of February for a day in March.
  const day = new Date(`${text.slice(0, 10)}T00:00:00Z`)
  const isNoDay =
    /^\d{4}-/.test(text) && (Number.isNaN(day.getTime()) || !day.toISOString().startsWith(text.slice(0, 10)))
  if (isNoDay || Number.isNaN(at.getTime()) || at <= now || at.getUTCFullYear() > 9999) {
    const what = at <= now && !isNoDay ? 'has passed' : 'is not a date'
    throw new LifeboatError('usage-invalid', `--until: ${JSON.stringify(text)} ${what}`, {
      hint: 'write e.g. 2027-12-31, 2027-12-31T18:00:00Z or 90d',
    })
  }
  return at
}

function durationOf(text: string): number {
  try {
    return parseDuration(text)
  } catch {
    return Number.NaN
  }
}
