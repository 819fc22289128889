import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { walFileKind } from '../../src/domain/wal.ts'
import { readWalPageHeader } from '../../src/domain/wal-page.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { storeWal } from './wal-objects.ts'

export interface CopierOptions {
  readonly archive: string
  readonly repositories: readonly Repository[]
  readonly systemIdentifier: string
  /** Default: histories, too. */
  readonly histories?: boolean
}

/** Copies as `copyWal` does until the test ends. */
export function startCopier(t: Test, options: CopierOptions): void {
  t.teardown(copyWal(options))
}

/** Stores what comes into a WAL archive in repositories, as little of a shipper as a backup needs; gives what ends it. */
export function copyWal({
  archive,
  repositories,
  systemIdentifier,
  histories = true,
}: CopierOptions): () => Promise<void> {
  const over = new AbortController()
  const done = new Set<string>()
  const round = async () => {
    for (const name of (await readdir(archive)).toSorted()) {
      const kind = walFileKind(name)
      if (done.has(name) || kind === null || (kind === 'history' && !histories)) continue
      const bytes = await readFile(join(archive, name))
      // cp(1) may still be at work.
      if (kind === 'segment' && readWalPageHeader(bytes)?.segmentSize !== bytes.length) continue
      for (const repository of repositories) await storeWal(repository, systemIdentifier, name, bytes)
      done.add(name)
    }
  }
  const running = (async () => {
    while (!over.signal.aborted) {
      await round()
      await delay(50, undefined, { signal: over.signal }).catch(() => {})
    }
  })()
  return async () => {
    over.abort()
    await running
  }
}
