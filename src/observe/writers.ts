import { type FileFacts, inodeOf, stillFor } from '../domain/external-file.ts'
import type { KnownFile } from './external-catalog.ts'
import { findWriters } from './scan.ts'

/** No dump waits for so long, milliseconds: a first look at tens of thousands of old files asks about none of them. */
const longestWaitMs = 7 * 86_400_000

/** Whether it is worth asking if a program still has a quiet file open for writing. */
export function mayBeOpen(facts: FileFacts, now: Date): boolean {
  return stillFor(facts, now) < longestWaitMs
}

/**
 * Which of these files a program still has open for writing: a dump that waits for a lock in the server is quiet for hours.
 * Linux only, and only processes that may be looked at; elsewhere none is seen.
 */
export async function openForWriting(files: readonly KnownFile[], signal: AbortSignal): Promise<readonly KnownFile[]> {
  if (files.length === 0) return []
  const open = await findWriters(
    files.map(({ name }) => name),
    signal,
  )
  // Of a directory only its name is known, which may be that of another one: then it is asked about again later.
  return files.filter(({ name, facts }) => open.has(facts.isDirectory ? `/${name}` : inodeOf(facts)))
}
