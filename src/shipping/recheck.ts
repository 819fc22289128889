import { join } from 'node:path'
import type { BadFile, BadFiles } from './bad-files.ts'
import type { ReadyArchive } from './plan.ts'
import { Unreadable } from './readers.ts'
import { questionOf } from './ship-file.ts'
import type { Source } from './source.ts'
import type { Trust } from './trust.ts'

const filesAtATime = 200

/**
 * Gives the files that may be good now: written anew, gone, or of a system identifier of which more is known. Nothing else
 * is tried again: a damaged file does not heal.
 */
export async function recheckBadFiles(
  files: BadFiles,
  {
    hinted,
    isDue,
    archive,
    source,
    judge,
    signal,
  }: {
    readonly hinted: readonly BadFile[]
    readonly isDue: boolean
    readonly archive: ReadyArchive
    readonly source: Source
    readonly judge: (systemIdentifier: string) => Trust
    readonly signal: AbortSignal
  },
): Promise<readonly BadFile[]> {
  const released: BadFile[] = []
  for (const file of new Set([...hinted, ...(isDue ? files.take(filesAtATime) : [])])) {
    signal.throwIfAborted()
    if (isOursNow(file, judge) || file.identity === null || (await isAnother(file, archive, source)))
      released.push(file)
  }
  return released
}

function isOursNow({ reason, systemIdentifier }: BadFile, judge: (systemIdentifier: string) => Trust): boolean {
  if (systemIdentifier === null || (reason !== 'foreign' && reason !== 'undecided')) return false
  return judge(systemIdentifier) !== reason
}

/** Whether there is another file under its name, or none. */
async function isAnother({ item, identity }: BadFile, archive: ReadyArchive, source: Source): Promise<boolean> {
  try {
    const path = join(archive.directory, item.name)
    const { file } = item
    const found = 'segment' in file ? source.head(path, questionOf(file, archive.segmentSize)) : source.plain(path)
    return (await found).identity !== identity
  } catch (error) {
    if (error instanceof Unreadable) return true
    throw error
  }
}
