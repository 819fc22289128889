import { mkdir, mkdtemp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { walKey } from '../../src/repository/layout.ts'
import type { Repository } from '../../src/repository/repository.ts'
import type { WalCipher } from '../../src/repository/wal-cipher.ts'
import { scratchDirectory } from './scratch.ts'
import { storedCluster } from './stored.ts'
import { segmentBytes } from './wal.ts'
import { directoryRepository, storeWal } from './wal-objects.ts'

export const system = '7500000000000000001'

/** A repository in a directory, and what puts WAL into it as shipping does. */
export class WalRepository {
  readonly root: string
  readonly repository: Repository
  /** What is stored is encrypted with it; null: with nothing. */
  cipher: WalCipher | null = null

  /** @param walCipher with which it reads */
  constructor(root: string, name: string, walCipher?: WalCipher) {
    this.root = root
    const history = { repositoryId: () => null, noteRepository: () => {} }
    this.repository = directoryRepository(root, {
      history,
      clock: systemClock,
      name,
      ...(walCipher ? { walCipher } : {}),
    })
  }

  /** Gives the path of what is stored. */
  async store(name: string, bytes: Buffer = stamped(segmentBytes(name.slice(0, 24))), of = system): Promise<string> {
    const { hash, isEncrypted } = await storeWal(this.repository, of, name, bytes, this.cipher)
    return this.pathOf(name, hash, of, isEncrypted)
  }

  pathOf(name: string, hash: string | null, of = system, isEncrypted = false): string {
    return join(this.root, walKey(storedCluster, { systemIdentifier: of, name, hash, isEncrypted }))
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

/** An empty directory for what is fetched. */
export async function targetDirectory(t: Test): Promise<string> {
  return mkdtemp(join(await scratchDirectory(t), 'target-'))
}
