import { mkdir, open, writeFile } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import type { ConnectionSource, Session } from '../postgres/connection.ts'
import { maxConfigBytes, type PhysicalServerFacts, readServerFile } from '../postgres/physical-facts.ts'

/** The configuration of a server that is not in its data directory, as files below a directory of our own. */
export interface StagedConfig {
  /** Null: all of it is in the data directory, or nothing of it could be read. */
  readonly directory: string | null
  readonly warnings: readonly string[]
}

/**
 * Copies the configuration files that lie outside of the data directory, under their full paths: through the server where the
 * role may read files there; else from the disk, if the server is reached through a Unix socket and so is on this machine.
 *
 * @param isAll those in the data directory, too
 */
export async function stageConfig(
  session: Session,
  facts: Pick<PhysicalServerFacts, 'dataDirectory' | 'configFiles'>,
  {
    source,
    directory,
    isAll = false,
  }: { readonly source: Pick<ConnectionSource, 'host'>; readonly directory: string; readonly isAll?: boolean },
): Promise<StagedConfig> {
  const { dataDirectory, configFiles } = facts
  if (dataDirectory === null)
    return { directory: null, warnings: ['config not saved: the role may not see where it is; it needs pg_monitor'] }
  const outside = configFiles.filter((path) => path.startsWith('/') && (isAll || isOutside(path, dataDirectory)))
  const unread: string[] = []
  let saved = 0
  for (const path of outside) {
    const bytes = await readFileOf(session, path, source.host.startsWith('/'))
    if (bytes === null) {
      unread.push(path)
      continue
    }
    const copy = join(directory, normalize(path))
    await mkdir(dirname(copy), { recursive: true })
    await writeFile(copy, bytes, { mode: 0o600 })
    saved += 1
  }
  const hint = 'they must be readable for lifeboat, or the role needs pg_read_server_files'
  return {
    directory: saved > 0 ? directory : null,
    warnings: unread.length === 0 ? [] : [`config not saved: ${unread.join(', ')} could not be read; ${hint}`],
  }
}

async function readFileOf(session: Session, path: string, isLocal: boolean): Promise<Buffer | null> {
  const told = await readServerFile(session, path).catch(() => null)
  if (told !== null || !isLocal) return told
  try {
    const handle = await open(path)
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(maxConfigBytes), 0, maxConfigBytes, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await handle.close()
    }
  } catch {
    return null
  }
}

function isOutside(path: string, directory: string): boolean {
  const way = relative(directory, path)
  return way.startsWith('../') || way === '..'
}
