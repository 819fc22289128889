import { hash } from 'node:crypto'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { parseHistory } from '../domain/timeline.ts'
import { segmentName, type WalFile } from '../domain/wal.ts'
import type { QuarantineReason } from '../observe/shipping-state.ts'
import type { Item, ReadyArchive } from './plan.ts'
import type { Outcome, ShipFile } from './ship-file.ts'
import type { Source } from './source.ts'

/**
 * Brings a history or label into a repository, as it is. Neither says of which cluster it is: that is told by the
 * segments that lie beside it, and without them by the newest one.
 */
export async function shipPlain(
  item: Item,
  file: Extract<WalFile, { kind: 'history' | 'label' }>,
  { repository, source, archive, stored, judge, mayCopy, signal }: ShipFile,
): Promise<Outcome> {
  const found = await source.plain(join(archive.directory, item.name))
  const { identity, content } = found
  const torn = content === null ? 'it is too long' : plainProblem(file, item.name, Buffer.from(content))
  if (content === null || torn !== null)
    return { kind: 'bad', reason: 'damaged', identity, systemIdentifier: null, description: torn ?? '' }
  const system = (await systemOf(file, source, archive)) ?? archive.systemIdentifier
  if (system === null) return { kind: 'later' }
  const bad = (reason: QuarantineReason | 'undecided', description: string): Outcome => ({
    ...{ kind: 'bad', reason, identity, systemIdentifier: system, description },
  })
  const trust = judge(system)
  if (trust === 'undecided') return bad(trust, `its system identifier ${system} is not known to be this server's`)
  const keepAside = async () => {
    const short = hash('sha256', content).slice(0, 12)
    const { body, isEncrypted } = await source.compress(content)
    const file = { systemIdentifier: system, name: item.name, hash: short, isEncrypted }
    await repository.wal.quarantine(file, body, { signal })
  }
  if (trust === 'foreign') {
    if (mayCopy()) await keepAside()
    return bad(trust, `it is of another cluster (system identifier ${system})`)
  }
  const put = async (systemIdentifier: string): Promise<Outcome | null> => {
    try {
      const result = await repository.wal.put({ systemIdentifier, name: item.name, hash: null }, content, { signal })
      return { kind: 'stored', systemIdentifier, file: found, bytes: result === 'stored' ? content.length : null }
    } catch (error) {
      // The lease of another is a conflict as well; only then is nothing stored under the name.
      if (!(error instanceof LifeboatError && error.code === 'conflict')) throw error
      if ((await repository.wal.headPlain(systemIdentifier, item.name, { signal })) === null) throw error
      await repository.fence({ signal })
      return null
    }
  }
  // Left in the archive by what the server was before its upgrade: it is there already, and not of the new one.
  for (const other of stored.systems.keys()) {
    if (other === system || (await repository.wal.headPlain(other, item.name, { signal })) === null) continue
    const outcome = await put(other)
    if (outcome !== null) return outcome
  }
  const outcome = await put(system)
  if (outcome !== null) return outcome
  if (mayCopy()) await keepAside()
  return bad('contradicts', 'other bytes are stored under its name')
}

/** Why it is not the whole file, or null. */
function plainProblem(file: WalFile, name: string, content: Buffer): string | null {
  const text = content.toString('utf8')
  if (file.kind === 'history') {
    try {
      parseHistory(file.timeline, text)
      return null
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }
  const names = text.startsWith('START WAL LOCATION: ') && text.includes(`(file ${name.slice(0, 24)})`)
  return names && text.endsWith('\n') ? null : 'it is not the whole label of a base backup'
}

/** What the segments that lie beside a history or label say; null when there is none. */
async function systemOf(
  file: Extract<WalFile, { kind: 'history' | 'label' }>,
  source: Source,
  { directory, coverage, segmentSize }: ReadyArchive,
): Promise<string | null> {
  const segments = coverage.segments(file.timeline)
  const segment = file.kind === 'history' ? segments.first : segments.has(file.segment) ? file.segment : null
  if (segment === null) return null
  const path = join(directory, segmentName(file.timeline, segment, segmentSize))
  const head = await source.head(path, { timeline: file.timeline, segment, segmentSize, checkPages: false })
  return head.problem === null ? head.systemIdentifier : null
}
