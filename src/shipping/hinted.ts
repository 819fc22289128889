import type { BadFile } from './bad-files.ts'

const mostNames = 1000
const mostIdentities = 10_000

/**
 * Names of files that are told to have come or changed. A hint may come more than once and late: what was shipped a moment
 * ago need not be read again for it.
 */
export class Hinted {
  readonly #names = new Set<string>()
  /** The files as they were shipped, the last ones. */
  readonly #identities = new Map<string, string>()

  /** Where there are too many they are forgotten: what is new is found without. */
  add(name: string): void {
    if (this.#names.size < mostNames) this.#names.add(name)
  }

  /** Each is given once. */
  *take(): Generator<string, void> {
    for (const name of this.#names) {
      this.#names.delete(name)
      yield name
    }
  }

  /** Those of the names that are among some files; they stay. */
  among(find: (name: string) => BadFile | undefined): readonly BadFile[] {
    return [...this.#names].flatMap((name) => find(name) ?? [])
  }

  seen(name: string, identity: string): void {
    this.#identities.delete(name)
    this.#identities.set(name, identity)
    for (const oldest of this.#identities.keys()) {
      if (this.#identities.size <= mostIdentities) return
      this.#identities.delete(oldest)
    }
  }

  /** As it was when it was shipped; null: long ago, or by another process. */
  identityOf(name: string): string | null {
    return this.#identities.get(name) ?? null
  }
}
