import { LifeboatError } from '../domain/errors.ts'
import { type Command, configHelp, configOption, jsonHelp, jsonOption, parse } from './command.ts'
import { setUpArchiving } from './wal-setup.ts'
import { verifyStoredWal, walVerifyUsage } from './wal-verify.ts'

/** The others have parsers of their own: their arguments are not those of `setup`. */
const others: Readonly<Record<string, Command['run']>> = {
  verify: verifyStoredWal,
}

export const walCommand: Command = {
  name: 'wal',
  summary: 'set the server up to archive its WAL, and verify what is stored of it',
  usage: `wal setup [--apply [--replace]] [--programs DIRECTORY] [--json]\n       lifeboat ${walVerifyUsage}`,
  options: [
    ['setup', 'show what to set for wal.archive, and what needs a restart; the server is never restarted'],
    ['--apply', 'set it, with ALTER SYSTEM'],
    ['--replace', 'also in place of another archive_command or archive_library'],
    [
      '--programs DIRECTORY',
      'where the server finds lifeboat-archive and lifeboat-restore-wal (default: in this installation)',
    ],
    ['verify', 'read the WAL in the repositories, each segment once, and tell what is wrong with it'],
    ['-r, --repository NAME', 'in this repository only'],
    ['--all', 'read also what was read and found whole before'],
    ['--records', 'let pg_waldump read the records, too'],
    ['--limit N', 'read at most so many segments in each repository'],
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const other = Object.entries(others).find(([name]) => name === argv[0])
    if (other !== undefined) return other[1](argv.slice(1), context)
    const { values, positionals } = parse(
      'wal',
      argv,
      {
        ...configOption,
        ...jsonOption,
        apply: { type: 'boolean' },
        replace: { type: 'boolean' },
        programs: { type: 'string' },
      },
      1,
    )
    const [what] = positionals
    if (what !== 'setup') {
      const message = what === undefined ? 'what about the WAL?' : `there is no command wal ${JSON.stringify(what)}`
      throw new LifeboatError('usage-invalid', message, { hint: 'lifeboat wal setup, or lifeboat wal verify' })
    }
    if (values.replace && !values.apply) throw new LifeboatError('usage-invalid', '--replace goes with --apply only')
    return setUpArchiving(values, context)
  },
}
