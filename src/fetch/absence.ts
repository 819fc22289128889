import { LifeboatError } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { parseHistory } from '../domain/timeline.ts'
import { firstLsn, parseWalName, walFileKind } from '../domain/wal.ts'
import type { Repository } from '../repository/repository.ts'
import { readSegmentSize } from '../repository/wal-segment-size.ts'
import { type Asking, askAll, unanimous } from './ask.ts'
import { readPlain } from './plain.ts'
import { storedSystems } from './system.ts'

interface Absent {
  readonly systemIdentifier: string
  /** Of the file that no repository has. */
  readonly name: string
  readonly repositories: readonly Repository[]
}

/**
 * Why a file that no repository has must have been there, in words that follow "it is missing, and"; null: nothing
 * speaks against this being the end.
 *
 * @throws LifeboatError where a repository cannot tell
 */
export async function whyHole(absent: Absent, asking: Asking): Promise<string | null> {
  const { systemIdentifier, repositories, name } = absent
  const kind = walFileKind(name)
  // At the end of a recovery PostgreSQL asks for the history of the timeline that it leaves; the first one has none.
  if (kind === 'label' || kind === 'partial' || name === '00000001.history') {
    await unanimous(name, askAll(repositories, asking, assertThere))
    return null
  }
  const look = kind === 'history' ? laterHistory : laterSegment
  const answers = await unanimous(
    name,
    askAll(repositories, asking, async (repository, signal) => {
      await assertThere(repository, signal)
      return look(repository, absent, signal)
    }),
  )
  const found = answers.find(([, later]) => later !== null)
  if (found !== undefined) return `${found[0].name} has ${found[1]}`
  const systems = await storedSystems(repositories, asking)
  if (systems.length > 0 && !systems.includes(systemIdentifier))
    return `of this cluster (system identifier ${systemIdentifier}) no WAL is stored, but of ${systems.join(', ')}`
  return null
}

/** An empty place is no proof that a file is missing. */
async function assertThere(repository: Repository, signal: AbortSignal): Promise<void> {
  if (await repository.checkIdentity({ signal })) return
  throw new LifeboatError('storage-failed', 'there is no repository: nothing was ever written to it', {
    hint: 'is its disk mounted? one that is really new is left out of the configuration of this recovery',
  })
}

/** PostgreSQL numbers timelines one after another, and looks no further than the first that is missing. */
async function laterHistory(
  { wal }: Repository,
  { systemIdentifier, name }: Absent,
  signal: AbortSignal,
): Promise<string | null> {
  for await (const later of wal.listPlain(systemIdentifier, { signal }))
    if (later.kind === 'history' && later.name > name) return `${later.name}: name the timeline instead of 'latest'`
  return null
}

async function laterSegment(repository: Repository, absent: Absent, signal: AbortSignal): Promise<string | null> {
  const { systemIdentifier, name } = absent
  const timeline = Number.parseInt(name.slice(0, 8), 16)
  for await (const later of repository.wal.list(systemIdentifier, timeline, { from: name, signal }))
    if (later.name.slice(0, 24) > name) return later.name
  return leftLater(repository, { ...absent, timeline }, signal)
}

/** A timeline that goes on from this one tells how far this one went. */
async function leftLater(
  repository: Repository,
  { systemIdentifier, name, timeline }: Absent & { readonly timeline: number },
  signal: AbortSignal,
): Promise<string | null> {
  let segmentSize: number | null = null
  for await (const object of repository.wal.listPlain(systemIdentifier, { signal })) {
    if (object.kind !== 'history') continue
    const bytes = await readPlain(repository, object, signal)
    const child = Number.parseInt(object.name.slice(0, 8), 16)
    for (const left of parseHistory(child, bytes.toString('latin1')).switches) {
      const log = BigInt(`0x${name.slice(8, 16)}`)
      if (left.timeline !== timeline || left.lsn >> 32n < log) continue
      const why = `${object.name}, which tells that this timeline went on to ${formatLsn(left.lsn)}`
      if (left.lsn >> 32n > log) return why
      segmentSize ??= (await readSegmentSize(repository, systemIdentifier, signal)).size
      const file = segmentSize === null ? null : parseWalName(name, segmentSize)
      // Left within this segment: what came before the fork was copied to the new timeline.
      if (file?.kind !== 'segment' || segmentSize === null || left.lsn >= firstLsn(file.segment + 1, segmentSize))
        return why
    }
  }
  return null
}
