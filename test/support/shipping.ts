import { createHash } from 'node:crypto'
import { chmod, cp, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { zstdDecompressSync } from 'node:zlib'
import type { Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'
import { parseWalName, walFileKind } from '../../src/domain/wal.ts'
import { readWalPageHeader } from '../../src/domain/wal-page.ts'
import type { ShippingState } from '../../src/observe/shipping-state.ts'
import type { StoredSystem, StoredWalState, WalArchiveState } from '../../src/observe/wal-state.ts'
import { Repository } from '../../src/repository/repository.ts'
import type { WalCipher } from '../../src/repository/wal-cipher.ts'
import { createShipper, type Shipper, type ShipperOptions } from '../../src/shipping/shipper.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type {
  CommonPrefix,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  Storage,
  StoredObject,
} from '../../src/storage/storage.ts'
import { keptLog } from './log.ts'
import { startCluster } from './postgres.ts'
import { scratchDirectory } from './scratch.ts'
import { untilAnswer } from './until.ts'

/** WAL that a server wrote and archived. */
export interface RealWal {
  readonly directory: string
  readonly names: readonly string[]
  readonly systemIdentifier: string
}

/** A server that archives, with some segments full and some ended early; it is gone when this resolves. */
export async function realWal(
  t: Test,
  { segments = 6, megabytes = 1 }: { segments?: number; megabytes?: number } = {},
): Promise<RealWal> {
  const base = await scratchDirectory(t)
  const directory = join(base, 'archived')
  await mkdir(directory, { mode: 0o777 })
  await chmod(directory, 0o777)
  const cluster = await startCluster(t, {
    settings: {
      archive_mode: 'on',
      archive_command: `cp %p ${directory}/%f.tmp && mv ${directory}/%f.tmp ${directory}/%f`,
    },
    initdbArgs: ['-E', 'UTF8', '--locale=C', `--wal-segsize=${megabytes}`],
  })
  await cluster.sql('create table t (i int, text text)')
  for (let round = 0; round < segments; round += 1) {
    await cluster.sql(
      `insert into t select i, md5(i::text) from generate_series(1, ${round % 2 === 0 ? 100 : 12000}) i`,
    )
    await cluster.sql('select pg_switch_wal()')
  }
  const names = async () => (await readdir(directory)).filter((name) => walFileKind(name) === 'segment').toSorted()
  const all = await untilAnswer('segments', async () => {
    const found = await names()
    return found.length >= segments && found
  })
  const [row] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  await cluster.server.stop()
  return { directory, names: all, systemIdentifier: row?.id ?? '' }
}

/** What the watch of the archive would say of a directory; all at once, for small ones. */
export async function lookAtArchive(directory: string, revision: number): Promise<WalArchiveState> {
  const names = (await readdir(directory)).filter((name) => walFileKind(name) !== null).toSorted()
  const of = (kind: string) => names.filter((name) => walFileKind(name) === kind)
  let newest: { name: string; at: Date; system: string | null; size: number } | null = null
  for (const name of of('segment')) {
    const { mtime } = await stat(join(directory, name))
    const header = readWalPageHeader((await readFile(join(directory, name))).subarray(0, 64))
    if (header) newest = { name, at: mtime, system: header.systemIdentifier, size: header.segmentSize }
  }
  const timelines = new Timelines()
  for (const name of of('history')) {
    const timeline = Number.parseInt(name.slice(0, 8), 16)
    try {
      timelines.add(parseHistory(timeline, await readFile(join(directory, name), 'utf8')))
    } catch {
      // Torn: it tells nothing.
    }
  }
  const coverage = newest === null ? null : new WalCoverage(newest.size, timelines)
  for (const name of names) {
    const file = newest === null ? null : parseWalName(name, newest.size)
    if (file !== null) coverage?.add(file)
  }
  return {
    directory,
    systemIdentifier: newest?.system ?? null,
    segmentSize: newest?.size ?? null,
    segments: of('segment').length,
    partials: of('partial').length,
    histories: of('history').length,
    labels: of('label').length,
    foreign: 0,
    bytes: 0,
    plainNames: [...of('history'), ...of('label')].toSorted(),
    partialNames: of('partial'),
    newest,
    coverage,
    revision,
    capacity: null,
  }
}

/** What an index would say of a repository. */
export async function lookAtStored(
  repository: Repository,
  segmentSize: number,
  revision: number,
): Promise<StoredWalState> {
  const systems = new Map<string, StoredSystem>()
  for await (const systemIdentifier of repository.wal.systems()) {
    const coverage = new WalCoverage(segmentSize, new Timelines())
    for await (const timeline of repository.wal.timelines(systemIdentifier)) {
      for await (const { name } of repository.wal.list(systemIdentifier, timeline)) {
        const file = parseWalName(name, segmentSize)
        if (file !== null) coverage.add(file)
      }
    }
    const counts = { segments: coverage.size, partials: 0, bytes: 0, contradictions: 0 }
    systems.set(systemIdentifier, { systemIdentifier, coverage, ...counts })
  }
  return { repository: repository.name, systems, revision, listedAt: new Date() }
}

export interface ShipGround {
  /** The archive, empty at first. */
  readonly archive: string
  readonly repositories: readonly Repository[]
  readonly storages: readonly FlawedStorage[]
  readonly roots: readonly string[]
  /** Identifiers that the server is known to have. */
  readonly known: Set<string>
  readonly lines: Record<string, unknown>[]
  /** A service; stopped at the end of the test. Its looks at the archive and the repositories are made anew by `look`. */
  ship(options?: Partial<ShipperOptions>): Promise<Shipper>
  /** Looks at the archive and at what is stored, as the observers do, and tells the service. */
  look(...hints: string[]): Promise<void>
  /** Looks at the archive alone. */
  lookAtArchive(): Promise<void>
  /** Puts files into the archive, atomically. */
  put(files: Readonly<Record<string, Buffer | string>>): Promise<void>
  /** Copies files of real WAL into the archive. */
  fill(wal: RealWal, names?: readonly string[]): Promise<void>
  /** Names of what is stored of a system identifier in a repository, each unpacked and held against its hash. */
  stored(systemIdentifier: string, index?: number): Promise<readonly string[]>
  /** Keys below `quarantine/`. */
  quarantined(index?: number): Promise<readonly string[]>
}

export async function shipGround(
  t: Test,
  options: { repositories?: number; clock?: Clock; cipher?: WalCipher } = {},
): Promise<ShipGround> {
  const { repositories: count = 1, clock = systemClock, cipher } = options
  const ciphered = cipher === undefined ? {} : { walCipher: cipher }
  const base = await scratchDirectory(t)
  const archive = join(base, "archive's 100%")
  await mkdir(archive)
  const roots = Array.from({ length: count }, (_, index) => join(base, `repository ${index}`))
  const storages = roots.map((root) => new FlawedStorage(new LocalStorage({ root, clock })))
  const repositories = storages.map(
    (storage, index) => new Repository({ name: `repository-${index}`, cluster: 'prod', storage, clock, ...ciphered }),
  )
  const known = new Set<string>()
  const { log, lines } = keptLog()
  const services: Shipper[] = []
  let revision = 0
  let seen: WalArchiveState | null = null
  let held: readonly StoredWalState[] = []
  const segmentSize = () => seen?.segmentSize ?? 1024 * 1024
  const lookAt = async () => {
    revision += 1
    seen = await lookAtArchive(archive, revision)
  }
  return {
    ...{ archive, repositories, storages, roots, known, lines },
    async ship(options = {}) {
      if (options.archive === undefined) await lookAt()
      held = await Promise.all(repositories.map((one) => lookAtStored(one, segmentSize(), revision)))
      const service = createShipper({
        archive: () => seen,
        stored: (name) => held.find((one) => one.repository === name) ?? null,
        repositories,
        isOurs: () => true,
        cipher: cipher ?? null,
        systemIdentifiers: () => known,
        parallel: 2,
        level: 1,
        keepInArchiveMs: null,
        clock,
        log,
        ...options,
      })
      services.push(service)
      t.teardown(() => service.stop())
      service.start()
      return service
    },
    async look(...hints) {
      await lookAt()
      held = await Promise.all(repositories.map((one) => lookAtStored(one, segmentSize(), revision)))
      for (const service of services) service.hint(hints)
    },
    async lookAtArchive() {
      await lookAt()
      for (const service of services) service.hint()
    },
    async put(files) {
      for (const [name, content] of Object.entries(files)) {
        await writeFile(join(archive, 'incoming'), content)
        await rename(join(archive, 'incoming'), join(archive, name))
      }
    },
    async fill(wal, names = wal.names) {
      for (const name of names) await cp(join(wal.directory, name), join(archive, name), { preserveTimestamps: true })
    },
    async stored(systemIdentifier, index = 0) {
      const repository = repositories[index]
      if (repository === undefined) return []
      const names: string[] = []
      for await (const timeline of repository.wal.timelines(systemIdentifier)) {
        for await (const object of repository.wal.list(systemIdentifier, timeline)) {
          const bytes = zstdDecompressSync(await buffer(await repository.wal.read(object)))
          const sha256 = createHash('sha256').update(bytes).digest('hex')
          t.equal(sha256.slice(0, 12), object.hash, `${object.name} unpacks to what its hash says`)
          names.push(object.name)
        }
      }
      for await (const { name } of repository.wal.listPlain(systemIdentifier)) names.push(name)
      return names.toSorted()
    },
    async quarantined(index = 0) {
      const keys: string[] = []
      for await (const item of storages[index]?.list('prod/quarantine/') ?? []) if ('key' in item) keys.push(item.key)
      return keys.map((key) => key.slice('prod/quarantine/'.length))
    },
  }
}

/** Waits until the state of a service is as it should be. */
export async function untilState(
  service: Shipper,
  what: string,
  is: (state: ShippingState) => boolean,
): Promise<ShippingState> {
  return untilAnswer(what, async () => {
    const state = service.state()
    return is(state) && state
  })
}

/** True when nothing is to be done any more at any repository. */
export function isIdle({ repositories }: ShippingState): boolean {
  return repositories.every(({ queued, inFlight, waiting }) => queued === 0 && inFlight === 0 && waiting === null)
}

/** A storage that hangs or fails when it is told to. */
export class FlawedStorage implements Storage {
  readonly #storage: Storage
  /** Called before each put; what it throws is what the put throws. */
  beforePut: (key: string) => Promise<void> | void = () => {}
  puts = 0
  readonly keys: string[] = []

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<ObjectInfo> {
    this.puts += 1
    await this.beforePut(key)
    const info = await this.#storage.put(key, body, options)
    this.keys.push(key)
    return info
  }

  get(key: string, options?: GetOptions): Promise<StoredObject> {
    return this.#storage.get(key, options)
  }

  head(key: string, options?: { readonly signal?: AbortSignal }): Promise<ObjectInfo | null> {
    return this.#storage.head(key, options)
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo | CommonPrefix> {
    return this.#storage.list(prefix, options)
  }

  remove(key: string, options?: { readonly signal?: AbortSignal }): Promise<void> {
    return this.#storage.remove(key, options)
  }
}
