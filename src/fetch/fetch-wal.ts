import { writeFile } from 'node:fs/promises'
import { type Failure, LifeboatError } from '../domain/errors.ts'
import { parseHistory } from '../domain/timeline.ts'
import { walFileKind } from '../domain/wal.ts'
import type { Repository } from '../repository/repository.ts'
import type { StoredWalObject } from '../repository/wal.ts'
import { whyHole } from './absence.ts'
import { type Answer, type Asking, ask, askAll, assertNone, nearestFirst } from './ask.ts'
import { readPlain } from './plain.ts'
import { writeSegment } from './segment-content.ts'
import type { SegmentWriters } from './segment-writers.ts'
import { makeWhole } from './target.ts'

export interface FetchOptions extends Asking {
  readonly repositories: readonly Repository[]
  readonly systemIdentifier: string
  /** Of contents that are meant where several are stored under one name. */
  readonly hashes: readonly string[]
  /** Whatever no repository has is taken for the end, also amid what is stored. */
  readonly missingIsEnd: boolean
}

/** What is missing is looked for once more: it may have been stored between the two looks that make it a hole. */
const looks = 2

/** Between the two, milliseconds: what follows may be stored a little before it, by who ships several at a time. */
export const holePauseMs = 500

/**
 * Gets one file of the WAL, under PostgreSQL's name for it, from the nearest repository that has it whole. False: it is
 * nowhere, and nothing speaks against the WAL ending there. Nothing is at the target unless this gives true.
 *
 * Of a segment that is nowhere whole, and after which nothing is stored or counts (`missingIsEnd`), the longest partial of
 * pg_receivewal is given.
 *
 * @throws LifeboatError `usage-invalid` for what is no such name; `object-missing` at a hole; `conflict` when two contents
 * are stored under one name; what the repositories fail with, when none has it whole and one could not be asked
 */
export async function fetchWal(name: string, target: string, options: FetchOptions): Promise<boolean> {
  const kind = walFileKind(name)
  if (kind === null || /\.partial\./.test(name))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(name)} is no name of a WAL file`)
  const isPlain = kind === 'history' || kind === 'label'
  for (let look = 1; ; look += 1) {
    const failures: (Answer<unknown> & { readonly failure: Failure })[] = []
    const partials: Candidate[] = []
    const tried: StoredWalObject[] = []
    const answers = isPlain ? plainOf(name, options) : segmentsOf(name, options)
    for await (const answer of nearestFirst<readonly StoredWalObject[]>(answers, options)) {
      options.signal.throwIfAborted()
      if ('failure' in answer) {
        failures.push(answer)
        continue
      }
      const { repository, value } = answer
      partials.push(...value.filter((one) => one.name !== name).map((object) => ({ repository, object })))
      const whole = value.filter((object) => object.name === name)
      if (whole.length === 0) continue
      const object = theOne([...tried, ...whole], options.hashes)
      tried.push(object)
      // Where it is stored twice the plain one comes first, which needs no key.
      for (const same of whole.filter(({ hash }) => hash === object.hash)) {
        const failed = await deliver({ repository, object: same }, target, options)
        if (failed === null) return true
        failures.push(failed)
      }
    }
    assertNone(name, failures)
    const why = await whyHole({ ...options, name }, options)
    // To its end what is there is wanted, as the recovery point counts it, also when later WAL was stored first.
    if (why === null || (look >= looks && options.missingIsEnd))
      return kind === 'segment' && (await deliverPartial(name, partials, target, options))
    if (look < looks) {
      await pause(options)
      continue
    }
    throw new LifeboatError('object-missing', `${name} is missing in every repository, and that is a hole: ${why}`, {
      hint: 'look for it in the archive, pg_wal of the server, or a standby. Recovery cannot go over it; a target before it can be reached, and --missing-is-end ends it there',
    })
  }
}

/** Waiting on the clock does not keep the process from ending, and PostgreSQL would take that for the end of the WAL. */
async function pause({ clock, signal }: Asking): Promise<void> {
  const held = setInterval(() => {}, 2 ** 31 - 1)
  try {
    await clock.sleep(holePauseMs, signal)
  } finally {
    clearInterval(held)
  }
}

interface Candidate {
  readonly repository: Repository
  readonly object: StoredWalObject
}

/** The segment itself, and partials of pg_receivewal; a server's own partial is there for who asks for it. */
function segmentsOf(name: string, options: FetchOptions): readonly Promise<Answer<readonly StoredWalObject[]>>[] {
  const { repositories, systemIdentifier } = options
  return askAll(repositories, options, async ({ wal }, signal) => {
    const all = await wal.ofSegment(systemIdentifier, name.slice(0, 24), { signal })
    const isWanted = (one: StoredWalObject) => one.name === name || one.name.startsWith(`${name}.partial.`)
    return all.filter(isWanted)
  })
}

function plainOf(name: string, options: FetchOptions): readonly Promise<Answer<readonly StoredWalObject[]>>[] {
  const { repositories, systemIdentifier } = options
  return askAll(repositories, options, async ({ wal }, signal) => {
    const info = await wal.headPlain(systemIdentifier, name, { signal })
    if (info === null) return []
    return [{ systemIdentifier, name, kind: walFileKind(name) ?? 'label', hash: null, isEncrypted: false, info }]
  })
}

/**
 * The content that is meant. Whoever chooses between two may choose the wrong history of the cluster.
 *
 * @throws LifeboatError `conflict`
 */
function theOne(objects: readonly StoredWalObject[], hashes: readonly string[]): StoredWalObject {
  const contents = new Map(objects.map((object) => [object.hash, object]))
  const [meant, ...others] =
    contents.size === 1 ? contents.values() : hashes.flatMap((hash) => contents.get(hash) ?? [])
  if (meant !== undefined && others.length === 0) return meant
  throw new LifeboatError(
    'conflict',
    `${contents.size} contents are stored as ${objects[0]?.name}: ${[...contents.keys()].join(', ')}`,
    { hint: 'two servers have written to the same place. Find out which is meant, and name it: --hash=DIGITS' },
  )
}

/** Null: it is at the target. */
async function deliver(
  { repository, object }: Candidate,
  target: string,
  options: FetchOptions,
): Promise<(Answer<unknown> & { readonly failure: Failure }) | null> {
  const answer = await ask(repository, options, (signal, alive) =>
    makeWhole(target, async (path) => {
      await writeObject({ repository, object }, path, { signal, alive })
    }),
  )
  return 'failure' in answer ? answer : null
}

/** Writes a stored file, checked, to a new file. Gives its length. */
export async function writeObject(
  { repository, object }: Candidate,
  path: string,
  progress: { readonly signal: AbortSignal; readonly alive: () => void; readonly writers?: SegmentWriters },
): Promise<number> {
  const { signal } = progress
  if (object.hash !== null) return writeSegment(object, await repository.wal.read(object, { signal }), path, progress)
  const bytes = await readPlain(repository, object, signal)
  if (bytes.length === 0) throw new LifeboatError('wal-invalid', `what is stored as ${object.name} is empty`)
  if (object.kind === 'history') parseHistory(Number.parseInt(object.name, 16), bytes.toString('latin1'))
  await writeFile(path, bytes, { flag: 'wx', mode: 0o600 })
  return bytes.length
}

/** The end is written in the name, in digits of one length. Less than the longest is never given in its place. */
async function deliverPartial(
  name: string,
  partials: readonly Candidate[],
  target: string,
  options: FetchOptions,
): Promise<boolean> {
  const longest = partials
    .map(({ object }) => object.name)
    .toSorted()
    .at(-1)
  const chosen = partials.filter(({ object }) => object.name === longest)
  if (chosen.length === 0) return false
  const meant = theOne(
    chosen.map(({ object }) => object),
    options.hashes,
  )
  const failures: (Answer<unknown> & { readonly failure: Failure })[] = []
  for (const one of chosen.filter(({ object }) => object.hash === meant.hash)) {
    const failed = await deliver(one, target, options)
    if (failed === null) return true
    failures.push(failed)
  }
  assertNone(name, failures)
  return false
}
