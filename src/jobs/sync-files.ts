import { type FileHandle, open } from 'node:fs/promises'
import type { Clock } from '../clock.ts'
import { isMissing } from '../storage/failures.ts'

const pauseMs = 500

/**
 * Sends files to the disk while a program writes them, so that the sync at the end is no long stall. `end` gives the failure
 * of a sync, null if there was none: the kernel reports a failed write-back once (fsync(2)), so that the next sync would
 * succeed though the bytes are lost.
 */
export function keepSyncing(paths: readonly string[], clock: Clock): { end(): Promise<Error | null> } {
  const over = new AbortController()
  const running = (async () => {
    for (;;) {
      await clock.sleep(pauseMs, over.signal).catch(() => {})
      if (over.signal.aborted) return null
      for (const path of paths) await syncFile(path)
    }
  })().catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))))
  return {
    end: () => {
      over.abort()
      return running
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
