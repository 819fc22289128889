import type { Clock } from '../clock.ts'
import type { Manifest } from '../domain/backup.ts'
import type { LifeboatError } from '../domain/errors.ts'
import { backupPrefix } from '../repository/layout.ts'
import type { ExpectedFiles, FileDeviation, FileLook } from '../storage/storage.ts'
import { type ArtifactSurvey, damaged, lengthProblem } from './stored-artifacts.ts'

/** Backups that are looked at together: some 3 ms of the thread that reads, and less of this one. */
const batchBackups = 128

/** How long one look may be busy with artifacts; what is left is looked at by the next ones. */
export interface Pace {
  readonly clock: Clock
  readonly budgetMs: number
}

interface ComparedArtifactsOptions {
  readonly files: FileLook
  readonly repository: {
    readonly cluster: string
    headManifest(id: string, options: { readonly signal: AbortSignal }): Promise<object | null>
  }
  /** Null: each look looks at everything. */
  readonly pace: Pace | null
}

interface Known {
  readonly checksum: string
  readonly names: readonly string[]
  readonly bytes: readonly number[]
  /** Undefined: nobody has looked yet. */
  problem: LifeboatError | null | undefined
}

/**
 * Compares the files of backups in a directory with their manifests, by their names and sizes: an artifact that is missing,
 * truncated, or no file any more is found without opening it. A file that changes in place changes no directory, so
 * that nothing tells of it: all are looked at, those first of which nothing or nothing good is known, and the others in turn.
 */
export class ComparedArtifacts implements ArtifactSurvey {
  readonly #options: ComparedArtifactsOptions
  readonly #backups = new Map<string, Known>()
  /** Most backups have files of the same names: one list is kept of them. */
  readonly #names = new Map<string, readonly string[]>()
  /** The last backup that was looked at in turn. */
  #last = ''

  constructor(options: ComparedArtifactsOptions) {
    this.#options = options
  }

  /** See ArtifactSurvey. */
  expect({ backupId, checksum, artifacts }: Manifest): void {
    if (this.#backups.get(backupId)?.checksum === checksum) return
    const names = artifacts.map(({ name }) => name)
    const key = names.join('/')
    const shared = this.#names.get(key) ?? names
    this.#names.set(key, shared)
    const bytes = artifacts.map(({ stored }) => stored.bytes)
    this.#backups.set(backupId, { checksum, names: shared, bytes, problem: undefined })
  }

  /** See ArtifactSurvey. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#backups.keys()) if (!ids.has(id)) this.#backups.delete(id)
    const used = new Set([...this.#backups.values()].map(({ names }) => names.join('/')))
    for (const key of this.#names.keys()) if (!used.has(key)) this.#names.delete(key)
  }

  /**
   * See ArtifactSurvey. `ids` in byte order. Where one file cannot be looked at it fails as the storage does: what is not seen
   * is not missing.
   */
  async survey(ids: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, LifeboatError>> {
    const { pace } = this.#options
    const startedAt = pace?.clock.monotonic() ?? 0
    const isLate = () => pace !== null && pace.clock.monotonic() - startedAt >= pace.budgetMs
    const isSound = (id: string) => this.#backups.get(id)?.problem === null
    const urgent = ids.filter((id) => !isSound(id))
    for (const batch of batchesOf(urgent)) {
      await this.#look(batch, signal)
      if (isLate()) break
    }
    const urgentIds = new Set(urgent)
    const next = ids.findIndex((id) => id > this.#last)
    const inTurn = next === -1 ? ids : [...ids.slice(next), ...ids.slice(0, next)]
    // At least one of these, however many of the others there are.
    for (const batch of batchesOf(inTurn.filter((id) => !urgentIds.has(id)))) {
      await this.#look(batch, signal)
      this.#last = batch.at(-1) ?? ''
      if (isLate()) break
    }
    const problems = new Map<string, LifeboatError>()
    for (const id of ids) {
      const problem = this.#backups.get(id)?.problem
      if (problem) problems.set(id, problem)
    }
    return problems
  }

  async #look(ids: readonly string[], signal: AbortSignal): Promise<void> {
    const { files, repository } = this.#options
    const idOf = new Map<string, string>()
    const wanted: ExpectedFiles[] = []
    for (const id of ids) {
      const known = this.#backups.get(id)
      if (known === undefined) continue
      const folder = backupPrefix(repository.cluster, id)
      idOf.set(folder, id)
      wanted.push({ folder, names: known.names, bytes: known.bytes })
    }
    const wrong = new Map<string, FileDeviation>()
    for (const one of await files.compare(wanted, { signal })) {
      const id = idOf.get(one.folder) ?? ''
      // The first of several.
      if (!wrong.has(id)) wrong.set(id, one)
    }
    for (const id of ids) {
      const [known, deviation] = [this.#backups.get(id), wrong.get(id)]
      if (known === undefined) continue
      // Who removes a backup takes its manifest first: one that has none by now is not damaged, but gone.
      const isDamaged = deviation !== undefined && (await repository.headManifest(id, { signal })) !== null
      const problem = isDamaged ? problemOf(id, known, deviation) : null
      if (problem === null || problem.message !== known.problem?.message) known.problem = problem
    }
  }
}

function problemOf(id: string, { names, bytes }: Known, { name, is }: FileDeviation): LifeboatError {
  if (is === 'missing') return damaged(id, name, 'is missing')
  if (is === 'no-file') return damaged(id, name, 'is no file: links are not followed')
  return damaged(id, name, lengthProblem(is, bytes[names.indexOf(name)] ?? 0))
}

function* batchesOf(ids: readonly string[]): Generator<readonly string[]> {
  for (let from = 0; from < ids.length; from += batchBackups) yield ids.slice(from, from + batchBackups)
}
