import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { isDatedAhead } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import type { BackupSummary, RepositoryState, ServerState } from './catalog.ts'
import type { ServerFacts } from './server.ts'

/** Keeps a few texts by name over restarts. */
export interface FactStore {
  /** Null when nothing was kept under that name. */
  fact(name: string): string | null
  /** Keeps a text, durable when it returns. */
  keepFact(name: string, value: string): void
}

export interface ServerMemoryOptions {
  readonly probe: (signal: AbortSignal) => Promise<ServerFacts>
  readonly facts: FactStore
  /** Databases that the user wants backed up; null: all that the server has. */
  readonly databases: readonly string[] | null
  readonly clock: Clock
  readonly log: Logger
}

/** Looks at the server and remembers what it saw: when the server is lost, the policy for it must not be lost as well. */
export interface ServerMemory {
  /** Looks; gives the same object again while nothing has changed. What cannot be kept is told in the log alone. */
  look(signal: AbortSignal): Promise<ServerState>
  /** What the last look of an earlier process saw; null when nothing was kept. */
  readonly remembered: ServerState | null
}

const factName = 'server'

/** As it is kept. Pairs, not an object: a database may be called `__proto__`. */
interface Kept {
  readonly systemIdentifier: string | null
  readonly serverVersion: string | null
  readonly databases: readonly (readonly [name: string, appearedAt: string | null])[]
  readonly missingDatabases: readonly string[]
}

export function createServerMemory({ probe, facts, databases, clock, log }: ServerMemoryOptions): ServerMemory {
  let kept: string | null = null
  let last: ServerState | null = null
  let told = false
  try {
    kept = facts.fact(factName)
    last = kept === null ? null : parse(kept)
  } catch (error) {
    log.warn({ failure: toFailure(error) }, 'what was kept of the server cannot be read: the next look keeps it anew')
  }

  function keep(text: string): void {
    if (text === kept) return
    try {
      facts.keepFact(factName, text)
      kept = text
      told = false
    } catch (error) {
      if (!told) log.warn({ failure: toFailure(error) }, 'what was seen of the server cannot be kept')
      told = true
    }
  }

  return {
    remembered: last === null ? null : select(last, databases),
    async look(signal) {
      const found = await probe(signal)
      // A look that was given up may end after a newer one: it must not replace what that one saw.
      signal.throwIfAborted()
      const state = Object.freeze({
        source: 'server',
        ...found,
        appearedAt: appearances(last, found, clock.now()),
      } as const)
      const text = serialize(state)
      keep(text)
      if (last?.source !== 'server' || serialize(last) !== text) last = state
      return last
    },
  }
}

/** The databases to ask about in a file that an earlier process wrote, e.g. to blame a failed backup on. */
export function rememberedDatabases(facts: Pick<FactStore, 'fact'>): readonly string[] {
  try {
    const text = facts.fact(factName)
    return text === null ? [] : parse(text).databases
  } catch {
    return [] // told of by whoever looks at the server
  }
}

/**
 * What the configuration and the backups tell of a server that nobody has seen: the identity that the newest backup
 * names, and the databases that are wanted, or else those that have dumps. Null when they tell nothing.
 */
export function inferServer(
  repositories: readonly RepositoryState[],
  databases: readonly string[] | null,
  now: Date,
): ServerState | null {
  let newest: BackupSummary | null = null
  for (const backup of repositories.flatMap((repository) => repository.backups)) {
    // By the clock: places in the WAL of several clusters cannot be compared.
    if (newest !== null && backup.startedAt.getTime() <= newest.startedAt.getTime()) continue
    if (!isDatedAhead([backup.startedAt, backup.finishedAt], now)) newest = backup
  }
  if (newest === null && databases === null) return null
  const dumped = repositories.flatMap(({ backups }) =>
    backups.filter((backup) => backup.type === 'dump' && backup.systemIdentifier === newest?.systemIdentifier),
  )
  return Object.freeze({
    source: 'inferred',
    systemIdentifier: newest?.systemIdentifier ?? null,
    serverVersion: newest?.serverVersion ?? null,
    databases: databases ?? [...new Set(dumped.map(({ database }) => database))].toSorted(),
    missingDatabases: [],
    appearedAt: new Map(),
  })
}

/**
 * A database that was not there at the look before appears now. At the first look, and in another cluster, nothing
 * appears: what is there may be years old.
 */
function appearances(last: ServerState | null, found: ServerFacts, now: Date): ReadonlyMap<string, Date> {
  const appearedAt = new Map<string, Date>()
  if (last === null || last.systemIdentifier !== found.systemIdentifier) return appearedAt
  const known = new Set(last.databases)
  for (const name of found.databases) {
    const before = last.appearedAt.get(name)
    // A clock that was ahead for a while must not put a database's turn off for as long as it was ahead.
    if (!known.has(name) || (before !== undefined && before > now)) appearedAt.set(name, now)
    else if (before !== undefined) appearedAt.set(name, before)
  }
  return appearedAt
}

/** What was remembered, under the present configuration: what the last look did not find stays missing. */
function select(state: ServerState, databases: readonly string[] | null): ServerState {
  if (databases === null) return state
  const missing = databases.filter((name) => state.missingDatabases.includes(name))
  return Object.freeze({
    ...state,
    databases: databases.filter((name) => !missing.includes(name)),
    missingDatabases: missing,
  })
}

function serialize({ systemIdentifier, serverVersion, databases, missingDatabases, appearedAt }: ServerState): string {
  const pairs = databases.map((name) => [name, appearedAt.get(name)?.toISOString() ?? null] as const)
  return JSON.stringify({ systemIdentifier, serverVersion, databases: pairs, missingDatabases } satisfies Kept)
}

function parse(text: string): ServerState {
  const { systemIdentifier, serverVersion, databases, missingDatabases } = JSON.parse(text) as Kept
  return Object.freeze({
    source: 'memory',
    systemIdentifier,
    serverVersion,
    databases: databases.map(([name]) => name),
    missingDatabases,
    appearedAt: new Map(databases.flatMap(([name, at]) => (at === null ? [] : [[name, new Date(at)]]))),
  })
}
