import { type FileHandle, open } from 'node:fs/promises'
import type { Clock } from '../clock.ts'
import { isMissing } from '../storage/failures.ts'

const pauseMs = 500

/**
 * Sends files to the disk while a program writes them, so that the sync at the end is no long stall. Never fails: what
 * cannot be synced fails at the end.
 */
export function keepSyncing(paths: readonly string[], clock: Clock): { end(): Promise<void> } {
  const over = new AbortController()
  const round = async () => {
    await clock.sleep(pauseMs, over.signal)
    for (const path of paths) await syncFile(path)
  }
  const running = (async () => {
    while (!over.signal.aborted) await round().catch(() => {})
  })()
  return {
    end: async () => {
      over.abort()
      await running
    },
  }
}

/** Makes what is in a file durable; one that is not there yet has nothing. */
export async function syncFile(path: string): Promise<void> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (error) {
    if (isMissing(error)) return
    throw error
  }
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
