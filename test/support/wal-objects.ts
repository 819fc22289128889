import { createHash } from 'node:crypto'
import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import type { Clock } from '../../src/clock.ts'
import { walFileKind } from '../../src/domain/wal.ts'
import { walKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import type { WalCipher } from '../../src/repository/wal-cipher.ts'
import type { History } from '../../src/runner/history.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { storedCluster } from './stored.ts'
import { segmentBytes } from './wal.ts'

/** What `segmentBytes` with its usual fill has for a system identifier. */
export const filledSystem = String(0x0101_0101_0101_0101n)

export interface DirectoryRepositoryOptions {
  /** Knows its identity: a state file, say. */
  readonly history: Pick<History, 'repositoryId' | 'noteRepository'>
  readonly clock: Clock
  readonly name?: string
  readonly walCipher?: WalCipher
}

/** A repository in a directory, of the cluster `storedCluster`. */
export function directoryRepository(
  root: string,
  { history, clock, name = 'local', ...ciphered }: DirectoryRepositoryOptions,
): Repository {
  const storage = new LocalStorage({ root, clock })
  const identity = { ledger: history, lifeboat: '1.2.3', exists: () => storage.exists() }
  return new Repository({ name, cluster: storedCluster, storage, clock, identity, ...ciphered })
}

export const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex').slice(0, 12)

/** Stores a file of WAL as the shipper does, with a cipher encrypted, and says what it is. */
export async function storeWal(
  repository: Repository,
  systemIdentifier: string,
  name: string,
  bytes: Buffer,
  cipher: WalCipher | null = null,
) {
  const isEncrypted = cipher !== null && !isPlain(name)
  const packed = isPlain(name) ? bytes : zstdCompressSync(bytes)
  const body = isEncrypted ? await cipher.seal(packed, new AbortController().signal) : packed
  const wal = { systemIdentifier, name, hash: isPlain(name) ? null : hashOf(bytes), isEncrypted }
  await repository.wal.put(wal, body)
  return { ...wal, bytes: body.length }
}

/** Stores a made segment of 1 MiB unless told. */
export async function storeSegment(repository: Repository, name: string, fill = 1, mebibytes = 1) {
  const bytes = segmentBytes(name, fill, mebibytes)
  return storeWal(repository, Buffer.alloc(8, fill).readBigUInt64LE().toString(), name, bytes)
}

function isPlain(name: string): boolean {
  const kind = walFileKind(name)
  return kind === 'history' || kind === 'label'
}

export interface StrewOptions {
  readonly systemIdentifier: string
  /** What it holds; an `x` unless told, since it does not matter. */
  readonly text?: string
  readonly storedAt?: Date
}

/** Writes an object with the right name, without the syncs of a repository: ten thousand take a second. */
export async function strewWal(root: string, name: string, options: StrewOptions): Promise<void> {
  const { systemIdentifier, text = 'x', storedAt } = options
  const hash = isPlain(name) ? null : 'abcdef012345'
  const path = join(root, walKey(storedCluster, { systemIdentifier, name, hash, isEncrypted: false }))
  await writeFile(path, text).catch(async () => {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, text)
  })
  if (storedAt !== undefined) await utimes(path, storedAt, storedAt)
}
