import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import type { Clock } from '../../src/clock.ts'
import { walFileKind } from '../../src/domain/wal.ts'
import { walKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import type { History } from '../../src/runner/history.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { segmentBytes } from './wal.ts'

/** What `segmentBytes` with its usual fill has for a system identifier. */
export const filledSystem = String(0x0101_0101_0101_0101n)

/** A repository in a directory, known by a state file. */
export function directoryRepository(
  root: string,
  { history, clock, cluster = 'spavix' }: { history: History; clock: Clock; cluster?: string },
): Repository {
  const storage = new LocalStorage({ root, clock })
  const identity = { ledger: history, lifeboat: '1.2.3', exists: () => storage.exists() }
  return new Repository({ name: 'local', cluster, storage, clock, identity })
}

export const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex').slice(0, 12)

/** Stores a file of WAL as the shipper does, and says what it is. */
export async function storeWal(repository: Repository, systemIdentifier: string, name: string, bytes: Buffer) {
  const kind = walFileKind(name)
  const isPlain = kind === 'history' || kind === 'label'
  const body = isPlain ? bytes : zstdCompressSync(bytes)
  const wal = { systemIdentifier, name, hash: isPlain ? null : hashOf(bytes) }
  await repository.wal.put(wal, body)
  return { ...wal, bytes: body.length }
}

/** Stores a made segment of 1 MiB unless told. */
export async function storeSegment(repository: Repository, name: string, fill = 1, mebibytes = 1) {
  const bytes = segmentBytes(name, fill, mebibytes)
  return storeWal(repository, Buffer.alloc(8, fill).readBigUInt64LE().toString(), name, bytes)
}

/** Writes objects of a byte each, with the right names, without the syncs of a repository: ten thousand take a second. */
export async function strewSegments(root: string, systemIdentifier: string, names: Iterable<string>): Promise<void> {
  const made = new Set<string>()
  for (const name of names) {
    const key = walKey('spavix', { systemIdentifier, name, hash: 'abcdef012345', isEncrypted: false })
    const path = join(root, key)
    if (!made.has(dirname(path))) await mkdir(dirname(path), { recursive: true })
    made.add(dirname(path))
    await writeFile(path, 'x')
  }
}
