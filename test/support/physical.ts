import { backupId, type Manifest } from '../../src/domain/backup.ts'
import { formatLsn, parseLsn } from '../../src/domain/lsn.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { storedCluster } from './stored.ts'
import { strewWal } from './wal-objects.ts'

export const storedSystem = '7500000000000000001'

export interface StoredFull {
  readonly startedAt: Date
  readonly timeline?: number
  /** Where its WAL begins. */
  readonly lsn: string
  readonly systemIdentifier?: string
  readonly segmentSize?: number
  /** Six hex digits that make the id unique. */
  readonly random?: string
  /** Artifacts besides the usual ones. */
  readonly more?: Readonly<Record<string, Buffer>>
}

/** Publishes a physical backup as its producer would, of a few bytes. */
export async function publishFull(repository: Repository, options: StoredFull): Promise<Manifest> {
  const { startedAt, timeline = 1, lsn, systemIdentifier = storedSystem, segmentSize = 16 * 1024 * 1024 } = options
  const id = backupId(startedAt, 'full', options.random ?? 'abcdef')
  const writer = await repository.beginBackup(id, { runId: 'test', signal: new AbortController().signal })
  for (const name of ['base.tar.zst', 'backup_manifest', 'RESTORE.md']) await writer.put(name, Buffer.from(name))
  for (const [name, bytes] of Object.entries(options.more ?? {})) await writer.put(name, bytes)
  const end = formatLsn((parseLsn(lsn) ?? 0n) + 0x100n) // no two backups end at one place
  return writer.publish({
    backupId: id,
    type: 'full',
    cluster: storedCluster,
    systemIdentifier,
    serverVersion: '18.6',
    serverVersionNum: 180_006,
    timeline,
    start: { lsn, time: startedAt.toISOString() },
    stop: { lsn: end, time: new Date(startedAt.getTime() + 60_000).toISOString() },
    parent: null,
    database: null,
    physical: {
      wal: [{ timeline, start: lsn, end }],
      tablespaces: [],
      segmentSize,
      dataChecksums: true,
      sourceBytes: 1,
      fromStandby: false,
      configSaved: true,
    },
    producer: { lifeboat: '0.1.0', programs: {}, options: [] },
    warnings: [],
    durationSeconds: 60,
  })
}

/** Writes an object of WAL, by PostgreSQL's name, that was stored at some time; what it holds does not matter. */
export function storeWal(
  root: string,
  name: string,
  storedAt: Date,
  { systemIdentifier = storedSystem, text = '' } = {},
): Promise<void> {
  return strewWal(root, name, { systemIdentifier, text, storedAt })
}
