import { LifeboatError, toFailure } from '../domain/errors.ts'
import { parseHistory } from '../domain/timeline.ts'
import { historyName } from '../domain/wal.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import { timelineHistory } from '../postgres/replication.ts'
import type { Repository } from '../repository/repository.ts'

/**
 * Sees that the histories of the timelines of a backup are stored beside it: no server recovers on a timeline of which it
 * cannot get the history. The archive brings them, but not where a server was promoted while it archived nothing, as a
 * restored one is. Then the server is asked.
 *
 * @throws LifeboatError `wal-missing` when one is neither stored nor to be had
 */
export async function storeHistories(
  repository: Repository,
  {
    systemIdentifier,
    timelines,
    source,
    signal,
  }: {
    readonly systemIdentifier: string
    readonly timelines: Iterable<number>
    readonly source: ConnectionSource
    readonly signal: AbortSignal
  },
): Promise<void> {
  for (const timeline of new Set(timelines)) {
    const name = historyName(timeline)
    if (timeline === 1 || (await repository.wal.headPlain(systemIdentifier, name, { signal })) !== null) continue
    const content = await timelineHistory(source, timeline, signal).catch((cause: unknown) => {
      signal.throwIfAborted()
      const words = `${name} is not stored in repository ${repository.name}, and the server does not give it`
      throw new LifeboatError('wal-missing', `${words}: ${toFailure(cause).message}`, {
        hint: `archive it, as the server's OS user in its data directory: touch pg_wal/archive_status/${name}.ready; then take the backup again`,
        cause,
      })
    })
    parseHistory(timeline, content.toString('utf8'))
    await repository.wal
      .put({ systemIdentifier, name, hash: null }, content, { signal })
      .catch(async (error: unknown) => {
        // The archive has brought it just now.
        if ((await repository.wal.headPlain(systemIdentifier, name, { signal })) === null) throw error
      })
  }
}
