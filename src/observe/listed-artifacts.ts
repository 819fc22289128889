import { backupPrefix, backupsPrefix } from '../repository/layout.ts'
import type { Repository } from '../repository/repository.ts'
import type { ObjectDescription, ObjectInfo } from '../storage/storage.ts'
import type { ArtifactListing } from './stored-artifacts.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

/** The files of all backups, as one listing gives them: for who looks once, and must know what is really there. */
export class ListedArtifacts implements ArtifactListing {
  readonly #place: Pick<Repository, 'storage' | 'cluster'>
  #found: ReadonlyMap<string, readonly ObjectInfo[]> = new Map()

  constructor(place: Pick<Repository, 'storage' | 'cluster'>) {
    this.#place = place
  }

  async refresh(options: Stoppable = {}): Promise<void> {
    const { storage, cluster } = this.#place
    const prefix = backupsPrefix(cluster)
    const found = new Map<string, ObjectInfo[]>()
    for await (const item of storage.list(prefix, options)) {
      if (!('key' in item)) continue
      const id = item.key.slice(prefix.length, item.key.indexOf('/', prefix.length))
      const others = found.get(id)
      if (others === undefined) found.set(id, [item])
      else others.push(item)
    }
    this.#found = found
  }

  ofBackup(id: string): readonly ObjectInfo[] {
    return this.#found.get(id) ?? []
  }

  /** What was published since is asked for. */
  async describe(id: string, name: string, options: Stoppable = {}): Promise<ObjectDescription | null> {
    const { storage, cluster } = this.#place
    const info = await storage.head(`${backupPrefix(cluster, id)}${name}`, options)
    return info && { info, sha256: null, replication: null }
  }
}
