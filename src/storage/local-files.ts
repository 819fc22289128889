import { storageFailure } from './failures.ts'
import { checkKey } from './keys.ts'
import type { Tree } from './local-list.ts'
import type { ExpectedFiles, FileDeviation, FileLook } from './storage.ts'

/**
 * Looks at very many files of a directory: one message to the thread that reads, and one call into the system for each file.
 * Fails with `storage-failed`, `usage-invalid` for a name that no key can have, and as soon as the signal aborts.
 */
export class LocalFiles implements FileLook {
  readonly #tree: Tree

  constructor(tree: Tree) {
    this.#tree = tree
  }

  /** See FileLook. */
  async compare(
    folders: readonly ExpectedFiles[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<readonly FileDeviation[]> {
    try {
      for (const { folder, names } of folders) for (const name of names) checkKey(`${folder}${name}`)
      const { root, reader } = this.#tree
      // Below a root that is not there, nothing is.
      return await reader.ask({ what: 'compare', folders }, (await root.path()) ?? root.configured, signal)
    } catch (error) {
      throw storageFailure('cannot look at files', error)
    }
  }
}
