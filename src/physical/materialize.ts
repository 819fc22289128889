import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { type Manifest, plainName } from '../domain/backup.ts'
import { assertChain, majorOf } from '../domain/chain.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { HashedArtifact } from '../domain/proof.ts'
import { type EncryptionConfig, noEncryption } from '../encryption/age.ts'
import type { Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { type OsUser, runProgram } from '../postgres/programs.ts'
import { firstClosed, removeTree } from '../postgres/scratch-directory.ts'
import { storageFailure } from '../storage/failures.ts'
import { type CheckOptions, checkIdentity, checkMember, linkTablespaces, type UnpackedMember } from './check-member.ts'
import { assertOneFileSystem, combine, moveInto } from './combine.ts'
import { cutLoose } from './cut-loose.ts'
import { ArtifactFetcher, type ChainMember } from './fetch-artifact.ts'
import { inParallel } from './parallel.ts'
import { emptyDirectory, incompleteMarker, makePrivate, Places } from './places.ts'

export type { ChainMember } from './fetch-artifact.ts'
export { incompleteMarker } from './places.ts'

export interface MaterializeOptions {
  /** The full one first. */
  readonly chain: readonly ChainMember[]
  /** Absent or empty; made, mode 0700. */
  readonly dataDirectory: string
  /**
   * For what is unpacked before it is combined; removed at the end. On the file system of `dataDirectory`, so that files can
   * be moved or linked.
   */
  readonly folder: string
  /** New place of each tablespace by oid; each absent or empty. One that is left out is refused. */
  readonly tablespaces: ReadonlyMap<number, string>
  /** Of the backup's own major version. */
  readonly installation: Installation
  /** For the backups that are encrypted; left out: there is no key for them. */
  readonly encryption?: EncryptionConfig
  /** Who owns the files in the end; null: whoever we are. */
  readonly owner: OsUser | null
  readonly signal: AbortSignal
  /** In bytes as they are stored. */
  readonly onProgress: (doneBytes: number, totalBytes: number, message: string) => void
  /**
   * When it is written through to the disk: by the end (default); by the server that is started next (any with `fsync = on`
   * does), for which most is written already while the files are checked; or not, for what is thrown away again.
   */
  readonly durable?: 'now' | 'by-server' | 'never'
  /**
   * Backups whose files a verification has compared with PostgreSQL's own manifest, unpacked from the bytes that ours tells of:
   * of the same bytes come the same files, and they are not compared again. Default: none.
   */
  readonly compared?: ReadonlySet<string>
  /** True: nothing is cut loose, so that it is as it was backed up, and no server must ever be started on it. Default false. */
  readonly verbatim?: boolean
  /**
   * When all is whole: is to put a mark of its own in place of `lifeboat-restore-incomplete`, so that there is one at every
   * moment; the marks of the tablespaces stay as well (`removeMarks`). Left out: all of them go.
   */
  readonly onWhole?: () => Promise<void>
  readonly clock?: Clock
}

export interface Materialized {
  readonly hashed: readonly (HashedArtifact & { readonly backupId: string })[]
  /** Seconds: `fetch` (with unpacking), `verify`, `combine`, `sync`. */
  readonly phases: Readonly<Record<string, number>>
  /** Of the data directory and its tablespaces. */
  readonly bytes: number
}

/**
 * Makes a data directory of a backup and those that it builds on: fetched, every byte compared with what was stored and every
 * file with PostgreSQL's own manifest (see `compared`), put together, and cut loose from the server that was backed up. It has `backup_label`,
 * its tablespaces are where they were mapped to, and what ALTER SYSTEM had set is in `postgresql.auto.conf.before-restore`.
 * It is for the caller to configure, and to start.
 *
 * While it is not whole, the file `lifeboat-restore-incomplete` in it says so. Should anything fail, nothing is left.
 *
 * @throws LifeboatError `not-recoverable` for a chain that is none; `program-missing` for another major version;
 * `usage-invalid` for directories or tablespaces that will not do; `conflict` for directories that are not empty;
 * `artifact-invalid`, `disk-full`, `storage-failed`; the signal's reason
 */
export async function materialize(options: MaterializeOptions): Promise<Materialized> {
  const { folder, dataDirectory, tablespaces, owner, signal } = options
  assertPossible(options)
  signal.throwIfAborted()
  const places = await Places.claim(dataDirectory, [...tablespaces.values()], { owner, folder })
  try {
    const made = await new Materialization(options).run()
    await (options.onWhole?.() ?? places.finish())
    return made
  } catch (error) {
    throw await places.abandon(error)
  } finally {
    await removeTree(folder)
  }
}

function assertPossible({ chain, tablespaces, installation }: MaterializeOptions): void {
  const last = assertChain(chain.map(({ manifest }) => manifest))
  const major = majorOf(last)
  if (installation.major !== major) {
    throw new LifeboatError(
      'program-missing',
      `${last.backupId} needs the programs of PostgreSQL ${major}, and those of ${installation.version} were chosen`,
      { hint: `install postgresql-${major}, or set postgres.binDir to its directory` },
    )
  }
  const needed = last.physical?.tablespaces ?? []
  const left = needed.find(({ oid }) => !tablespaces.has(oid))
  if (left !== undefined) {
    throw new LifeboatError(
      'usage-invalid',
      `there is no new place for the tablespace ${left.oid}, which was in ${left.path ?? 'a place that is encrypted'}`,
      {
        hint: 'map every tablespace to a directory of its own: the old one may still belong to the old server',
      },
    )
  }
  const unknown = [...tablespaces.keys()].find((oid) => !needed.some((one) => one.oid === oid))
  if (unknown !== undefined) throw new LifeboatError('usage-invalid', `${last.backupId} has no tablespace ${unknown}`)
}

class Materialization {
  readonly #options: MaterializeOptions
  readonly #clock: Clock
  readonly #env: Readonly<Record<string, string>>
  readonly #phases: Record<string, number> = {}
  readonly #totalBytes: number
  #doneBytes = 0
  #message = ''

  constructor(options: MaterializeOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#env = { [workMarker]: options.folder }
    this.#totalBytes = options.chain.reduce((sum, { manifest }) => sum + neededBytes(manifest), 0)
  }

  async run(): Promise<Materialized> {
    const { dataDirectory, folder, owner, tablespaces, chain, durable = 'now', verbatim = false } = this.#options
    await this.#makeFolder(folder)
    if (chain.length > 1) await assertOneFileSystem(folder, dataDirectory)
    const { members, hashed } = await this.#fetch()
    if (members.length > 1) {
      await this.#timed('combine', async () => {
        const output = join(folder, 'combined')
        await makePrivate(output, owner)
        this.#tell('putting the chain together')
        await combine({ ...this.#checking(this.#options.signal), members, output, tablespaces, folder })
        await moveInto(output, dataDirectory)
      })
    }
    if (!verbatim) await cutLoose(dataDirectory, owner)
    if (durable === 'now') {
      this.#tell('writing through to the disk')
      await this.#timed('sync', () => this.#sync(this.#options.signal))
    }
    return { hashed, phases: this.#phases, bytes: await this.#size() }
  }

  async #fetch() {
    const { chain, folder, owner, compared, encryption = noEncryption } = this.#options
    const began = this.#clock.monotonic()
    const fetcher = new ArtifactFetcher({
      ...{ folder, owner, encryption, clock: this.#clock, env: this.#env },
      onBytes: (bytes) => {
        this.#doneBytes += bytes
        this.#tell()
      },
    })
    let fetched = began
    const members: UnpackedMember[] = []
    const tasks: ((signal: AbortSignal) => Promise<void>)[] = []
    for (const [index, member] of chain.entries()) {
      const unpacked = await this.#prepare(member, index)
      members.push(unpacked)
      const archives = archivesOf(unpacked)
      let left = archives.length
      for (const [name, directory] of archives) {
        tasks.push(async (signal) => {
          this.#tell(`unpacking ${name} of ${member.manifest.backupId}`)
          const clear = () => emptyDirectory(directory, incompleteMarker)
          await fetcher.unpack(member, name, { directory, clear, signal })
          fetched = this.#clock.monotonic()
          left -= 1
          if (left > 0) return
          // While the next ones are unpacked.
          await linkTablespaces(unpacked, this.#checking(signal))
          await fetcher.read(member, 'backup_manifest', join(unpacked.dataDirectory, 'backup_manifest'), signal)
          this.#tell(`checking the files of ${member.manifest.backupId}`)
          const check = compared?.has(member.manifest.backupId) ? checkIdentity : checkMember
          await check(unpacked, this.#checking(signal))
        })
      }
    }
    await this.#writeMeanwhile((signal) => inParallel(tasks, { limit: 2, signal }))
    this.#phases.fetch = (fetched - began) / 1000
    this.#phases.verify = (this.#clock.monotonic() - fetched) / 1000
    return { members, hashed: fetcher.hashed }
  }

  /** A backup alone is unpacked where it is to be, the members of a chain in the folder. */
  async #prepare({ manifest }: ChainMember, index: number): Promise<UnpackedMember> {
    const { chain, folder, owner, dataDirectory, tablespaces } = this.#options
    if (chain.length === 1) return { manifest, dataDirectory, tablespaces }
    const own = join(folder, String(index))
    await makePrivate(own, owner)
    const places = (manifest.physical?.tablespaces ?? []).map(({ oid }) => [oid, join(own, String(oid))] as const)
    const data = join(own, 'data')
    for (const path of [data, ...places.map(([, path]) => path)]) await makePrivate(path, owner)
    return { manifest, dataDirectory: data, tablespaces: new Map(places) }
  }

  async #makeFolder(folder: string): Promise<void> {
    const { owner } = this.#options
    try {
      await mkdir(folder, { recursive: true })
      await chmod(folder, 0o711) // whatever the umask says: the owner passes through
    } catch (error) {
      throw storageFailure(`cannot make ${folder}`, error)
    }
    const closed = await firstClosed(folder, owner)
    if (closed !== null)
      throw new LifeboatError('usage-invalid', `the OS user ${owner?.name} cannot enter ${closed}`, {
        hint: `run: chmod o+x ${closed}`,
      })
  }

  /**
   * The disk would have nothing to do while files are unpacked into memory and compared there: what is there is
   * written through meanwhile. Of a slow disk that is a fifth of the time, since others want it too. Members of a chain go
   * again.
   */
  async #writeMeanwhile(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { chain, durable, signal } = this.#options
    if (chain.length > 1 || durable === 'never') return work(signal)
    const over = new AbortController()
    const writing = async (signal: AbortSignal) => {
      let pauseMs = shortestPauseMs
      while (!(await this.#isOver(pauseMs, AbortSignal.any([signal, over.signal])))) {
        const began = this.#clock.monotonic()
        await this.#sync(signal)
        const took = this.#clock.monotonic() - began
        pauseMs = Math.max(shortestPauseMs, took > slowMs ? 4 * took : took)
      }
    }
    const working = (signal: AbortSignal) => work(signal).finally(() => over.abort())
    await inParallel([working, writing], { limit: 2, signal })
  }

  async #isOver(pauseMs: number, signal: AbortSignal): Promise<boolean> {
    return this.#clock.sleep(pauseMs, signal).then(
      () => signal.aborted,
      () => true,
    )
  }

  /** One call for each file system, instead of one for each file. */
  async #sync(signal: AbortSignal): Promise<void> {
    const { dataDirectory, tablespaces } = this.#options
    const args = ['--file-system', dataDirectory, ...tablespaces.values()]
    await runProgram({ program: 'sync', args, env: this.#env, signal })
  }

  async #size(): Promise<number> {
    const { dataDirectory, tablespaces, signal } = this.#options
    const args = ['--summarize', '--bytes', dataDirectory, ...tablespaces.values()]
    const { stdout } = await runProgram({ program: 'du', args, env: this.#env, signal })
    return stdout.split('\n').reduce((sum, line) => sum + Number(/^\d+(?=\t)/.exec(line)?.[0] ?? 0), 0)
  }

  #checking(signal: AbortSignal): CheckOptions {
    const { installation, owner } = this.#options
    return { installation, owner, env: this.#env, signal }
  }

  async #timed(phase: string, work: () => Promise<void>): Promise<void> {
    const began = this.#clock.monotonic()
    await work()
    this.#phases[phase] = (this.#clock.monotonic() - began) / 1000
  }

  #tell(message = this.#message): void {
    this.#message = message
    this.#options.onProgress(this.#doneBytes, this.#totalBytes, message)
  }
}

const [shortestPauseMs, slowMs] = [100, 500]

/** The archives of a backup, and where each is unpacked. */
function archivesOf({ manifest, dataDirectory, tablespaces }: UnpackedMember): readonly (readonly [string, string])[] {
  const others = (manifest.physical?.tablespaces ?? []).map(
    ({ oid, artifact }) => [artifact, tablespaces.get(oid) ?? ''] as const,
  )
  return [['base.tar.zst', dataDirectory], ...others]
}

function neededBytes({ artifacts, physical }: Manifest): number {
  const needed = ['base.tar.zst', 'backup_manifest', ...(physical?.tablespaces ?? []).map(({ artifact }) => artifact)]
  return artifacts.filter((one) => needed.includes(plainName(one))).reduce((sum, { stored }) => sum + stored.bytes, 0)
}
