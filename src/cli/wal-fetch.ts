import { resolve } from 'node:path'
import { parseDuration, parseSize } from '../config/units.ts'
import { errorCodes, LifeboatError, toFailure } from '../domain/errors.ts'
import { fetchWal } from '../fetch/fetch-wal.ts'
import { Prefetcher } from '../fetch/prefetch.ts'
import { SegmentWriters } from '../fetch/segment-writers.ts'
import { Spool } from '../fetch/spool.ts'
import { chooseSystem, firstSegment } from '../fetch/system.ts'
import { UpcomingSegments } from '../fetch/upcoming.ts'
import { makeRepositories } from '../repositories.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { IdentityLedger } from '../repository/repository.ts'
import { configOf, configOption, parse, type QuickContext } from './command.ts'
import { errorText } from './error-text.ts'

/** The status of `lifeboat wal fetch` for a file that is nowhere: not 1, with which a crashed program ends too. */
const nowhere = 44
const defaults = { ahead: 16, spoolSize: '512MiB', timeout: '30s' }
const parallel = 2
/** restore_command runs in the data directory. */
const here = '.'

export const fetchUsage = ['wal fetch NAME TARGET [OPTION]…', 'wal prefetch SPOOL [OPTION]…']

export const fetchOptions: readonly (readonly [flag: string, meaning: string])[] = [
  [
    `lifeboat wal fetch, prefetch: get a file of the WAL from the repositories (exit code ${nowhere}: none has it, and the WAL ends there), or keep the next ones ready for lifeboat-restore-wal, which starts that by itself`,
    '',
  ],
  ['--repository NAME', 'ask this one only; can be given several times'],
  ['--system-identifier ID', 'whose WAL (default: that of the data directory it runs in, or the only one stored)'],
  ['--hash DIGITS', 'the content that is meant where several are stored under one name; can be given several times'],
  ['--missing-is-end', 'what is missing is the end of the WAL, also where later WAL is stored: for a standby'],
  ['--timeout DURATION', `a repository that is silent for so long has failed (default: ${defaults.timeout})`],
  ['--ahead COUNT', `segments to have ready (default: ${defaults.ahead})`],
  ['--spool-size SIZE', `bytes that the spool may take (default: ${defaults.spoolSize}; one segment at any rate)`],
]

/** One set for both commands: lifeboat-restore-wal passes its own on to both. */
const options = {
  ...configOption,
  repository: { type: 'string', multiple: true },
  'system-identifier': { type: 'string' },
  hash: { type: 'string', multiple: true },
  'missing-is-end': { type: 'boolean' },
  timeout: { type: 'string' },
  ahead: { type: 'string' },
  'spool-size': { type: 'string' },
} as const

/** Only who writes needs to remember which repository it was. */
const noLedger: IdentityLedger = { repositoryId: () => null, noteRepository: () => {} }

/** `lifeboat wal fetch`. Gives the exit code. */
export async function runFetch(argv: readonly string[], context: QuickContext): Promise<number> {
  const { names, prepared } = await prepare('wal fetch NAME TARGET', 2, argv, context)
  const [name, target] = names
  return (await fetchWal(name, resolve(target), prepared)) ? 0 : nowhere
}

/** `lifeboat wal prefetch`. The status is 0 or 1: of children that it does not know, a postmaster that is process 1 takes others for a crash. */
export async function runPrefetch(argv: readonly string[], context: QuickContext): Promise<number> {
  try {
    const { names, prepared, ahead, maxBytes } = await prepare('wal prefetch SPOOL', 1, argv, context)
    const spool = new Spool(resolve(names[0]))
    const lock = await spool.lock()
    if (lock === null) throw new LifeboatError('conflict', 'another prefetcher has this spool')
    const writers = new SegmentWriters(parallel)
    try {
      await spool.tidy(context.clock.now())
      const upcoming = new UpcomingSegments({ ...prepared, asking: prepared })
      const place = { spool, dataDirectory: here, first: await firstSegment(here) }
      await new Prefetcher({ ...place, upcoming, fetch: prepared, ahead, maxBytes, parallel, writers }).run()
    } finally {
      await writers.close()
      lock.release()
    }
    return 0
  } catch (error) {
    context.err.write(`lifeboat: ${errorText(toFailure(error))}`)
    return Math.min(1, errorCodes[toFailure(error).code].exit)
  }
}

async function prepare(usage: string, count: number, argv: readonly string[], context: QuickContext) {
  const { clock, signal, version } = context
  const { values, positionals } = parse('wal', argv, options, count)
  const names: readonly string[] = positionals
  if (names.length < count || names.includes(''))
    throw new LifeboatError('usage-invalid', 'an argument is missing', { hint: `lifeboat ${usage}` })
  const hashes = values.hash ?? []
  const wrong = hashes.find((hash) => !/^[0-9a-f]{12}$/.test(hash))
  if (wrong !== undefined)
    throw new LifeboatError('usage-invalid', `--hash cannot be ${JSON.stringify(wrong)}: it has 12 hexadecimal digits`)
  const ahead = values.ahead === undefined ? defaults.ahead : Number(values.ahead)
  if (!Number.isInteger(ahead) || ahead < 0 || ahead > 1024)
    throw new LifeboatError('usage-invalid', '--ahead must be a number from 0 to 1024')
  const patienceMs = amount('--timeout', values.timeout ?? defaults.timeout, parseDuration)
  const maxBytes = amount('--spool-size', values['spool-size'] ?? defaults.spoolSize, parseSize)
  const config = await configOf(values, context)
  const all = makeRepositories(config, { clock, version: version.version, ledger: noLedger }).map(
    (one) => one.repository,
  )
  if (all.length === 0) throw new LifeboatError('usage-invalid', 'the configuration has no repository')
  const chosen = values.repository?.flatMap((one) => chooseRepositories(all, one)) ?? all
  const repositories = [...new Set(chosen)]
  const asking = { clock, signal, patienceMs }
  const place = { ...asking, repositories, dataDirectory: here }
  const systemIdentifier = await chooseSystem(values['system-identifier'] ?? null, place)
  const missingIsEnd = values['missing-is-end'] === true
  const prepared = { ...asking, repositories, systemIdentifier, hashes, missingIsEnd }
  return { names: [names[0] ?? '', names[1] ?? ''] as const, prepared, ahead, maxBytes }
}

function amount(flag: string, text: string, read: (text: string) => number): number {
  try {
    return read(text)
  } catch (cause) {
    throw new LifeboatError('usage-invalid', `${flag}: ${(cause as Error).message}`, { cause })
  }
}
