import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createZstdCompress } from 'node:zlib'
import { backupId, type Manifest } from '../../src/domain/backup.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { copyCluster } from './copy.ts'
import type { Cluster } from './postgres.ts'

/**
 * Takes a base backup and stores it as a `full` one. The server must archive, since pg_basebackup waits for the WAL of the
 * backup to be archived.
 *
 * @param directory is made, and can be removed afterwards
 */
export async function storeBaseBackup(cluster: Cluster, repository: Repository, directory: string): Promise<Manifest> {
  const [server] = await cluster.sql<{ id: string; version: string; num: string; segment: string }>(
    `select system_identifier::text as id, current_setting('server_version') as version,
       current_setting('server_version_num') as num,
       pg_size_bytes(current_setting('wal_segment_size'))::text as segment from pg_control_system()`,
  )
  const startedAt = new Date()
  await copyCluster(cluster, directory, ['-Ft', '-X', 'none'])
  const stoppedAt = new Date()
  const found = JSON.parse(await readFile(join(directory, 'backup_manifest'), 'utf8')) as {
    'WAL-Ranges': readonly { Timeline: number; 'Start-LSN': string; 'End-LSN': string }[]
  }
  const [range] = found['WAL-Ranges']
  if (range === undefined || server === undefined) throw new Error('the backup names no WAL')
  const id = backupId(startedAt, 'full', 'abcdef')
  const writer = await repository.beginBackup(id, { runId: 'test', signal: new AbortController().signal })
  await writer.put('base.tar.zst', createReadStream(join(directory, 'base.tar')).pipe(createZstdCompress()))
  await writer.put('backup_manifest', await readFile(join(directory, 'backup_manifest')))
  await writer.put('RESTORE.md', Buffer.from('by hand\n'))
  return writer.publish({
    ...{ backupId: id, type: 'full', cluster: repository.cluster, systemIdentifier: server.id },
    ...{ serverVersion: server.version, serverVersionNum: Number(server.num), timeline: range.Timeline },
    start: { lsn: range['Start-LSN'], time: startedAt.toISOString() },
    stop: { lsn: range['End-LSN'], time: stoppedAt.toISOString() },
    physical: {
      wal: [{ timeline: range.Timeline, start: range['Start-LSN'], end: range['End-LSN'] }],
      ...{ tablespaces: [], segmentSize: Number(server.segment), dataChecksums: false, sourceBytes: 1 },
      ...{ fromStandby: false, configSaved: false },
    },
    ...{ parent: null, database: null, warnings: [], durationSeconds: 1 },
    producer: { lifeboat: '0.0.0-test', programs: { pg_basebackup: server.version }, options: [] },
  })
}

/**
 * Brings files back by standard tools alone, as a person would: the base backup into `data`, and all WAL, by its own names,
 * into `wal`. `root` is the directory of the repository and its cluster.
 */
export async function fetchByHand(root: string, id: string, data: string, wal: string): Promise<void> {
  const script = `set -e
mkdir -m 700 "$3"; mkdir "$4"
zstd -q -dc "$1/backups/$2/base.tar.zst" | tar -x -C "$3"
cd "$1/wal"
find . -name '*.history' -exec cp {} "$4/" \\;
find . -name '*.zst' | while read -r file; do
  name=\${file##*/}; zstd -q -d "$file" -o "$4/\${name%-????????????.zst}"
done`
  await runProgram({ program: 'sh', args: ['-c', script, 'sh', root, id, data, wal] })
  const user = await serverOsUser('postgres')
  if (user !== null) await runProgram({ program: 'chown', args: ['-R', `${user.uid}:${user.gid}`, data, wal] })
}
