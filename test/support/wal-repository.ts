import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { constants, zstdCompressSync } from 'node:zlib'
import type { Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { walKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { scratchDirectory } from './scratch.ts'
import { segmentBytes } from './wal.ts'

export const storedWalCluster = 'spavix'
export const system = '7500000000000000001'

/** A repository in a directory, and what puts WAL into it as shipping does. */
export class WalRepository {
  readonly root: string
  readonly repository: Repository

  constructor(root: string, name: string) {
    this.root = root
    const storage = new LocalStorage({ root })
    const identity = {
      ledger: { repositoryId: () => null, noteRepository: () => {} },
      lifeboat: '1.2.3',
      exists: () => storage.exists(),
    }
    this.repository = new Repository({ name, cluster: storedWalCluster, storage, clock: systemClock, identity })
  }

  /** Gives the path of what is stored. */
  async store(name: string, bytes: Buffer = stamped(segmentBytes(name.slice(0, 24))), of = system): Promise<string> {
    const isPlain = name.endsWith('.history') || name.endsWith('.backup')
    const hash = isPlain ? null : hashOf(bytes)
    const body = isPlain ? bytes : zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
    await this.repository.wal.put({ systemIdentifier: of, name, hash }, body)
    return this.pathOf(name, hash, of)
  }

  pathOf(name: string, hash: string | null, of = system): string {
    return join(this.root, walKey(storedWalCluster, { systemIdentifier: of, name, hash, isEncrypted: false }))
  }

  /** Stores a file that a server has written. */
  async ship(path: string, of: string): Promise<void> {
    await this.store(path.slice(path.lastIndexOf('/') + 1), await readFile(path), of)
  }
}

export async function walRepository(t: Test, name = 'first', base?: string): Promise<WalRepository> {
  const root = join(base ?? (await scratchDirectory(t)), name)
  await mkdir(root, { recursive: true })
  return new WalRepository(root, name)
}

/** A segment of the cluster `system`. */
export function stamped(bytes: Buffer, of = system): Buffer {
  bytes.writeBigUInt64LE(BigInt(of), 24)
  return bytes
}

export function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 12)
}

/** An empty directory for what is fetched. */
export async function targetDirectory(t: Test): Promise<string> {
  return mkdtemp(join(await scratchDirectory(t), 'target-'))
}
