import { LifeboatError } from '../domain/errors.ts'
import { type Command, configHelp, configOption, forEach, jsonHelp, jsonOption, parse } from './command.ts'
import { fetchOptions, fetchUsage, runFetch, runPrefetch } from './wal-fetch.ts'
import { setUpArchiving } from './wal-setup.ts'
import { showWalGaps, showWalStatus, walStatusUsages } from './wal-status.ts'
import { verifyStoredWal, walVerifyUsage } from './wal-verify.ts'

/** What can be done about the WAL, by the word that follows `wal`. Each has a parser of its own. */
const actions: Readonly<Record<string, Command['run']>> = {
  setup: runSetup,
  status: showWalStatus,
  gaps: showWalGaps,
  verify: verifyStoredWal,
  fetch: runFetch,
  prefetch: runPrefetch,
}

const usages = [
  'wal setup [--apply [--replace]] [--programs DIRECTORY] [--json]',
  ...walStatusUsages,
  walVerifyUsage,
  ...fetchUsage,
]

export const walCommand: Command = {
  name: 'wal',
  summary: 'archive the WAL, show what is where and what is missing, verify it, give it back',
  usage: usages.join('\n       lifeboat '),
  options: [
    [
      'lifeboat wal setup: show what to set for wal.archive, and what needs a restart; the server is never restarted',
      '',
    ],
    ['--apply', 'set it, with ALTER SYSTEM'],
    ['--replace', 'also in place of another archive_command or archive_library'],
    [
      '--programs DIRECTORY',
      'where the server finds lifeboat-archive and lifeboat-restore-wal (default: in this installation)',
    ],
    ['lifeboat wal status: show what WAL is where, how far one can recover, and what would be lost right now', ''],
    ['lifeboat wal gaps: show what is missing; exit code 1 when something is that wal.holes does not acknowledge', ''],
    ['lifeboat wal verify: read the WAL in the repositories, each segment once, and tell what is wrong with it', ''],
    ['-r, --repository NAME', 'in this repository only'],
    ['--all', 'read also what was read and found whole before'],
    ['--records', 'let pg_waldump read the records, too'],
    ['--limit N', 'read at most so many segments in each repository'],
    ...fetchOptions,
    [forEach, ''],
    configHelp,
    jsonHelp,
  ],
  async run([what, ...argv], context) {
    const action = what !== undefined && Object.hasOwn(actions, what) ? actions[what] : undefined
    if (action !== undefined) return action(argv, context)
    const message = what === undefined ? 'what about the WAL?' : `there is no command wal ${JSON.stringify(what)}`
    const hint = `one of lifeboat wal ${Object.keys(actions).join(', ')}`
    throw new LifeboatError('usage-invalid', message, { hint })
  },
}

async function runSetup(...[argv, context]: Parameters<Command['run']>): Promise<number> {
  const own = { apply: { type: 'boolean' }, replace: { type: 'boolean' }, programs: { type: 'string' } } as const
  const { values } = parse('wal', argv, { ...configOption, ...jsonOption, ...own })
  if (values.replace && !values.apply) throw new LifeboatError('usage-invalid', '--replace goes with --apply only')
  return setUpArchiving(values, context)
}
