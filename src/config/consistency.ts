import { realpath } from 'node:fs/promises'
import { basename, dirname, join, normalize, sep } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { parseRepositoryUrl } from './addresses.ts'
import { checkAlertDrill } from './alert-drill.ts'
import { checkBandwidth } from './bandwidth.ts'
import { checkCosts } from './costs.ts'
import { checkEncryption } from './encryption.ts'
import { checkHooks } from './hooks.ts'
import { checkPhysical } from './physical.ts'
import { formatKey, type KeyPath, type Problems } from './problems.ts'
import { checkBuckets } from './repositories.ts'
import { checkRetention } from './retention.ts'
import { longestGapSeconds } from './schedule.ts'
import { readSecretFile } from './secrets.ts'
import { isRecord } from './shape.ts'
import { formatDuration, parseDuration } from './units.ts'
import { checkHoles } from './wal-holes.ts'
import { checkWatchedBuckets, checkWatches } from './watch.ts'

/** A sound text of the configuration, with its place. */
interface Found {
  readonly path: KeyPath
  readonly value: string
}

interface Placed extends Found {
  /** With symbolic links followed. */
  readonly directory: string
}

/**
 * Checks what no key can show alone: names that are taken twice, directories that lie in one another, limits that a
 * schedule can never keep, the password file. `tree` holds only values that are sound by themselves.
 */
export async function checkConsistency(tree: unknown, problems: Problems): Promise<void> {
  checkUnique(texts(tree, 'repositories', '*', 'name'), 'is the name of another repository too', problems)
  checkUnique(texts(tree, 'auth', 'tokens', '*', 'name'), 'is the name of another token too', problems)
  checkUnique(
    texts(tree, 'auth', 'tokens', '*', 'sha256').map(({ path, value }) => ({ path, value: value.toLowerCase() })),
    'is the same token as another: nobody could tell who used it',
    problems,
  )
  checkUnique(texts(tree, 'postgres', 'databases', '*'), 'is listed twice', problems)
  checkUnique(texts(tree, 'verification', 'assertions', '*', 'name'), 'is the name of another assertion too', problems)
  checkDatabases(tree, problems)
  checkTls(tree, problems)
  checkLimit(tree, 'dump', 'dumpMaxAge', problems)
  checkLimit(tree, 'verify', 'verificationMaxAge', problems)
  checkLimit(tree, 'alertDrill', 'alertPathMaxAge', problems)
  checkTargetTimeout(tree, problems)
  checkPhysical(tree, problems)
  checkRetention(tree, problems)
  checkCosts(tree, problems)
  checkBandwidth(tree, problems)
  checkWatches(tree, problems)
  checkHooks(tree, problems)
  checkAlertDrill(tree, problems)
  checkHoles(tree, problems)
  checkStream(tree, problems)
  await checkDirectories(tree, problems)
  await checkBuckets(tree, problems)
  await checkWatchedBuckets(tree, problems)
  await checkEncryption(tree, problems)
  await checkPassword(tree, problems)
}

/** All texts at a path; `*` stands for every element of a list. */
export function texts(tree: unknown, ...pattern: readonly string[]): Found[] {
  let found: { path: (string | number)[]; value: unknown }[] = [{ path: [], value: tree }]
  for (const part of pattern) {
    found = found.flatMap(({ path, value }) => {
      if (part === '*') {
        return Array.isArray(value) ? value.map((item, index) => ({ path: [...path, index], value: item })) : []
      }
      return isRecord(value) && Object.hasOwn(value, part) ? [{ path: [...path, part], value: value[part] }] : []
    })
  }
  return found.flatMap(({ path, value }) => (typeof value === 'string' ? [{ path, value }] : []))
}

function checkUnique(found: readonly Found[], message: string, problems: Problems): void {
  const first = new Map<string, KeyPath>()
  for (const { path, value } of found) {
    const other = first.get(value)
    if (other) problems.add(path, message, `See ${formatKey(other)}.`)
    else first.set(value, path)
  }
}

function checkDatabases(tree: unknown, problems: Problems): void {
  const databases = texts(tree, 'postgres', 'databases', '*')
  for (const { path, value } of databases) {
    if (value === 'template0' || value === 'template1') problems.add(path, 'is a template: templates are never dumped')
  }
  if (databases.length === 0) return
  const dumped = databases.map(({ value }) => value)
  for (const { path, value } of texts(tree, 'verification', 'assertions', '*', 'database')) {
    if (!dumped.includes(value)) {
      problems.add(path, 'is not among postgres.databases: no copy of it is ever restored', 'Add it there.')
    }
  }
}

function checkTls(tree: unknown, problems: Problems): void {
  const [mode] = texts(tree, 'postgres', 'sslMode')
  const [authorities] = texts(tree, 'postgres', 'sslRootCert')
  if (mode && authorities && !mode.value.startsWith('verify-')) {
    problems.add(
      authorities.path,
      `has no effect with sslMode ${mode.value}`,
      'Set postgres.sslMode to verify-full, or remove the key.',
    )
  }
}

/** A limit that is not longer than the longest gap of its schedule is passed again and again while all is well. */
function checkLimit(tree: unknown, job: string, limit: string, problems: Problems): void {
  const [schedule] = texts(tree, 'schedule', job)
  const [maxAge] = texts(tree, 'policy', limit)
  if (!schedule || !maxAge || schedule.value === 'off') return
  const gapMs = longestGapSeconds(schedule.value) * 1000
  if (parseDuration(maxAge.value) <= gapMs) {
    const gap = formatDuration(gapMs)
    problems.add(
      maxAge.path,
      `is not longer than the longest gap of schedule.${job}, ${gap}: it would be passed although all is well`,
      `Make it longer than ${gap}, or leave it out: it is then derived from the schedule.`,
    )
  }
}

function checkTargetTimeout(tree: unknown, problems: Problems): void {
  const [whole] = texts(tree, 'verification', 'timeout')
  const [one] = texts(tree, 'verification', 'targetTimeout')
  if (!whole || !one || parseDuration(one.value) <= parseDuration(whole.value)) return
  problems.add(
    one.path,
    'is longer than verification.timeout, which ends the whole run before',
    'Make verification.timeout longer, too: all backups together have to fit into it.',
  )
}

function checkStream(tree: unknown, problems: Problems): void {
  const [stream] = texts(tree, 'wal', 'stream', 'slot')
  if (!stream || texts(tree, 'wal', 'archive').length > 0) return
  problems.add(
    ['wal', 'stream'],
    'is set, and wal.archive is not: the WAL that is received goes there',
    'Set wal.archive to a directory of its own, on another disk than the database.',
  )
}

/**
 * No repository or WAL archive may lie in another, nor in the directories of our own state, nor these in it: one would take the other's
 * files for its own, and clean them up.
 */
async function checkDirectories(tree: unknown, problems: Problems): Promise<void> {
  const real = async ({ path, value }: Found, directory: string): Promise<Placed> => ({
    path,
    value,
    directory: await resolve(directory),
  })
  const own = await Promise.all(
    [...texts(tree, 'stateDir'), ...texts(tree, 'workDir')].map((found) => real(found, found.value)),
  )
  const repositories = await Promise.all(
    texts(tree, 'repositories', '*', 'url').flatMap((found) => {
      const place = parseRepositoryUrl(found.value)
      return 'path' in place ? [real(found, place.path)] : []
    }),
  )
  const archives = await Promise.all(texts(tree, 'wal', 'archive').map((found) => real(found, found.value)))
  const placed = [...repositories, ...archives]
  for (const [index, place] of placed.entries()) {
    for (const other of [...own, ...placed.slice(0, index)]) {
      const relation = relate(place.directory, other.directory)
      if (relation) {
        const isOwn = own.includes(other)
        const what = `${formatKey(other.path)}${isOwn ? ` (${other.value})` : ''}`
        problems.add(place.path, `${relation} ${what}`, isOwn ? hintFor(place, other) : beside)
      }
    }
  }
  const [state, work] = [own.find(({ path }) => path[0] === 'stateDir'), own.find(({ path }) => path[0] === 'workDir')]
  if (state && work && isInside(state.directory, work.directory)) {
    problems.add(
      work.path,
      'holds stateDir: leftovers are removed from workDir at start',
      'Use a directory below stateDir.',
    )
  }
}

const beside = 'Give each a directory of its own, beside the others.'

/** What to do about a place that lies in a directory of ours, `stateDir` or `workDir`. */
function hintFor(place: Placed, own: Placed): string {
  if (relate(place.directory, own.directory) !== 'lies inside' || own.directory === sep) return beside
  const [key, mine] = [formatKey(own.path), normalize(own.value).replace(/\/+$/, '')]
  const within = join(mine, key.replace(/Dir$/, ''))
  const outside = `Put it beside that, e.g. in ${mine}-${basename(place.directory)}`
  // Not where that would be the same again.
  if (relate(join(own.directory, basename(within)), place.directory) !== undefined) return `${outside}.`
  return `${outside}; or set ${key} to a directory beside it, e.g. ${within}, and move there what it holds.`
}

function relate(directory: string, other: string): string | undefined {
  if (directory === other) return 'is the same directory as'
  if (isInside(directory, other)) return 'lies inside'
  return isInside(other, directory) ? 'holds' : undefined
}

/** True for the directory itself, too. */
function isInside(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer === sep ? sep : outer + sep)
}

/** A path with the symbolic links of its existing part followed: two names of one directory must not look like two. */
async function resolve(path: string): Promise<string> {
  const plain = normalize(path).replace(/(?<=.)\/+$/, '')
  try {
    return await realpath(plain)
  } catch {
    // Not there yet, or not ours to see: its parent may be.
    const parent = dirname(plain)
    return parent === plain ? plain : join(await resolve(parent), basename(plain))
  }
}

async function checkPassword(tree: unknown, problems: Problems): Promise<void> {
  const [inline] = texts(tree, 'postgres', 'password')
  const [file] = texts(tree, 'postgres', 'passwordFile')
  if (inline && file) {
    problems.add(inline.path, 'is set, and postgres.passwordFile too', 'Keep postgres.passwordFile.')
  }
  if (!file) return
  try {
    await readSecretFile(file.value)
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    problems.add(file.path, error.message, error.hint)
  }
}
