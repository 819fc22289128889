import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { maxAgeSeconds } from '../config/schedule.ts'
import { readSmallText, refusalOf } from './bounded-read.ts'
import { type DumpCall, isSecret, readShell } from './shell-text.ts'

/** Something that cron starts, and that takes dumps. */
export interface DumpJob {
  /** The crontab, or the script in a folder of cron. */
  readonly source: string
  /** Cron expression in the machine's time zone; null when it has none (`@reboot`) or cannot be read. */
  readonly schedule: string | null
  /** Age at which the newest dump is too old, by the schedule. */
  readonly maxAgeSeconds: number | null
  readonly calls: readonly DumpCall[]
  /** Every path that it, or what it calls, names. */
  readonly paths: readonly string[]
}

export interface CronFindings {
  readonly jobs: readonly DumpJob[]
  /** What could not be looked at, in words. */
  readonly troubles: readonly string[]
}

const mostFiles = 500
const mostLines = 1000
/** When Debian's crontab starts the folders; other systems differ by hours, which changes no gap. */
const folders = { hourly: '17 * * * *', daily: '25 6 * * *', weekly: '47 6 * * 0', monthly: '52 6 1 * *' }
const names: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
}

/**
 * Reads the crontabs and the scripts that they start, as texts, for calls of pg_dump. Nothing is run, and nothing is waited
 * for: FIFOs, devices and what is too large to be a script are told of.
 *
 * @param root put before the places of crontabs, for tests; paths inside of them are taken as they are
 */
export async function findDumpJobs(root: string): Promise<CronFindings> {
  const search = new Search(root)
  await search.crontab(join(root, '/etc/crontab'), true)
  for (const path of await search.list(join(root, '/etc/cron.d'))) await search.crontab(path, true)
  for (const path of await search.list(join(root, '/var/spool/cron/crontabs'))) await search.crontab(path, false)
  for (const [folder, schedule] of Object.entries(folders)) {
    for (const path of await search.list(join(root, `/etc/cron.${folder}`))) {
      const text = await search.read(path)
      if (text !== null) await search.take(path, schedule, text, new Map(), path)
    }
  }
  return search
}

class Search implements CronFindings {
  readonly jobs: DumpJob[] = []
  readonly troubles: string[] = []
  readonly #homes: Promise<ReadonlyMap<string, string>>
  #files = 0

  constructor(root: string) {
    this.#homes = homesOf(join(root, '/etc/passwd'))
  }

  async list(directory: string): Promise<readonly string[]> {
    try {
      const found = (await readdir(directory)).filter((name) => !name.startsWith('.')).sort()
      return found.map((name) => join(directory, name))
    } catch (error) {
      const refusal = refusalOf(error)
      if (refusal !== 'missing') this.troubles.push(`${directory} ${refusal}`)
      return []
    }
  }

  /** Null for what is not there or was refused, which is noted. */
  async read(path: string): Promise<string | null> {
    const read = await this.#readQuietly(path)
    if ('text' in read) return read.text
    if (read.refused !== 'missing') this.troubles.push(`${path} ${read.refused}`)
    return null
  }

  async #readQuietly(path: string) {
    this.#files += 1
    if (this.#files === mostFiles)
      this.troubles.push(`more than ${mostFiles} crontabs and scripts: the rest was not read`)
    return this.#files < mostFiles ? readSmallText(path) : { refused: 'missing' }
  }

  async crontab(path: string, namesUser: boolean): Promise<void> {
    const variables = new Map<string, string>()
    for (const line of (await this.read(path))?.split('\n').slice(0, mostLines) ?? []) {
      const [, name, value] = /^\s*([A-Za-z_]\w*)\s*=\s*["']?(.*?)["']?\s*$/.exec(line) ?? []
      if (name !== undefined && !isSecret(name)) variables.set(name, value ?? '')
      const entry = /^\s*(@[a-z]+|(?:[\w*/,#-]+\s+){4}[\w*/,#-]+)\s+(.*)$/.exec(line)
      if (name !== undefined || entry === null) continue
      const [, schedule = '', rest = ''] = entry
      const [, user, command = ''] = namesUser ? (/^(\S+)\s+(.*)$/.exec(rest) ?? []) : ['', basename(path), rest]
      const home = (await this.#homes).get(user ?? '')
      const known = new Map([...(home === undefined ? [] : [['HOME', home] as const]), ...variables])
      // To cron a percent sign is a newline, what follows is standard input; `\%` stands for it.
      const text = command.replace(/(?<!\\)%.*$/, '').replaceAll('\\%', '%')
      await this.take(path, schedule.startsWith('@') ? (names[schedule] ?? null) : schedule, text, known, null)
    }
  }

  /** Notes the job if it takes dumps. */
  async take(
    source: string,
    schedule: string | null,
    text: string,
    variables: Map<string, string>,
    self: string | null,
  ): Promise<void> {
    const seen = new Set(self === null ? [] : [self])
    const { calls, paths } = await this.#follow(text, variables, seen, 0)
    if (calls.length > 0) this.jobs.push({ source, schedule, maxAgeSeconds: limitOf(schedule), calls, paths })
  }

  /** Reads a text and the scripts that it names; what those set (a file of settings) is known to it too. */
  async #follow(text: string, variables: Map<string, string>, seen: Set<string>, depth: number) {
    const first = readShell(text, new Map(variables))
    const calls: DumpCall[] = []
    const paths: string[] = []
    for (const path of depth < 3 ? first.paths : []) {
      if (seen.has(path)) continue
      seen.add(path)
      const read = await this.#readQuietly(path)
      if (!('text' in read)) continue
      const inner = await this.#follow(read.text, variables, seen, depth + 1)
      calls.push(...inner.calls)
      paths.push(...inner.paths)
    }
    const own = readShell(text, variables)
    return { calls: [...calls, ...own.calls].slice(0, 1000), paths: [...paths, ...own.paths].slice(0, 1000) }
  }
}

function limitOf(schedule: string | null): number | null {
  try {
    return schedule === null ? null : maxAgeSeconds(schedule)
  } catch {
    return null
  }
}

async function homesOf(passwd: string): Promise<ReadonlyMap<string, string>> {
  const read = await readSmallText(passwd)
  const lines = 'text' in read ? read.text.split('\n') : []
  return new Map(
    lines.flatMap((line) => {
      const [name = '', , , , , home = ''] = line.split(':')
      return home.startsWith('/') ? [[name, home] as const] : []
    }),
  )
}
