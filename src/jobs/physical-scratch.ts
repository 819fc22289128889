import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import type { RestoredCluster } from '../domain/proof.ts'
import { walFileKind } from '../domain/wal.ts'
import { type Materialized, materialize } from '../physical/materialize.ts'
import { type Recovered, recover } from '../physical/recover.ts'
import { withSession } from '../postgres/connection.ts'
import type { Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { checkPages } from '../postgres/page-checksums.ts'
import { makeReachable } from '../postgres/scratch-directory.ts'
import type { Repository } from '../repository/repository.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import type { ReplayPlan } from './replay-plan.ts'
import { type ReplayTarget, targetText } from './replay-target.ts'
import { fetchReplayWal } from './replay-wal.ts'
import { reserveBytes, whileRoom } from './room.ts'
import type { ScratchAccount } from './scratch-account.ts'
import type { SeenMember } from './verify-chain.ts'
import type { CheckedCopy } from './verify-data.ts'
import { unpackedBytes } from './verify-members.ts'
import { freeBytes } from './work-folder.ts'

export interface PhysicalScratchOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly log: Logger
  readonly repository: Repository
  /** The full one first. */
  readonly chain: readonly SeenMember[]
  readonly target: ReplayTarget | null
  readonly installation: Installation
  readonly account: ScratchAccount
  /** Of this backup alone. */
  readonly folder: string
  /** Below it, of the scratch server's user. */
  readonly place: string
  readonly phases: Phases
  readonly signal: AbortSignal
  readonly onProgress: (ratio: number, message: string) => void
}

/** What the checkpoints and logs of a scratch server take besides. */
const spareBytes = 128 * 1024 * 1024 + reserveBytes

/**
 * Makes a data directory of a chain in the work folder, all of it checked.
 *
 * @throws VerdictError `disk-full` when the disk has no room for it; what `materialize` throws
 */
export async function unpackChain(options: PhysicalScratchOptions, plan: ReplayPlan): Promise<Materialized> {
  const { chain, folder, place, installation, account, clock, phases, signal } = options
  const { physical } = lastOf(chain)
  const unpacked = chain.reduce((sum, { manifest }) => sum + unpackedBytes(manifest.artifacts), 0)
  const wal = walBytes(plan)
  const needed = unpacked + (chain.length > 1 ? physical.sourceBytes : 0) + wal + spareBytes
  const free = await freeBytes(folder)
  if (free < needed) {
    const words = `the restore needs about ${needed} bytes, of which ${wal} are WAL; ${folder} has ${free} free`
    throw new VerdictError('inconclusive', 'disk-full', 'scratch server', words)
  }
  const made = await whileRoom({ clock, folder, check: 'scratch server', signal }, (limited) =>
    materialize({
      chain: chain.map(({ manifest }) => ({ manifest, repositories: [options.repository] })),
      dataDirectory: dataIn(place),
      folder: join(place, 'unpack'),
      tablespaces: new Map(physical.tablespaces.map(({ oid }) => [oid, join(place, `tablespace-${oid}`)])),
      installation,
      owner: account.osUser,
      durable: 'never',
      encryption: options.config.encryption,
      clock,
      signal: limited,
      onProgress: (done, total, message) => options.onProgress(done / Math.max(1, total), message),
    }),
  )
  phases.add(made.phases)
  return made
}

/** A cluster that was restored and has replayed its WAL. Whoever gets it closes it. */
export interface PhysicalCopy {
  readonly copy: Omit<CheckedCopy, 'database'>
  readonly restored: RestoredCluster
  /** Stops it in good order and checks every page. Nothing can be asked of it afterwards. */
  checkPages(recorder: LevelRecorder): Promise<void>
  close(): Promise<void>
}

/**
 * The level `restore`: a server of the backup's own major version replays the WAL of the backup to its end, or to the moment
 * that is wanted, and becomes a server that can be written to. Null: it did not come to that.
 */
export async function replayInScratch(
  options: PhysicalScratchOptions,
  { plan, made, beganAt }: { readonly plan: ReplayPlan; readonly made: Materialized; readonly beganAt: number },
  recorder: LevelRecorder,
): Promise<PhysicalCopy | null> {
  const { clock, folder, repository, account, phases, signal, onProgress } = options
  const files = plan.needed.length + plan.beyond.length
  const restoreCommand = await recorder.look('wal', 'wal-missing', signal, () =>
    phases.time('wal', () =>
      whileRoom({ clock, folder, check: 'wal', signal }, (limited) =>
        fetchReplayWal({
          ...{ repository, plan, folder, clock, osUser: account.osUser, signal: limited },
          systemIdentifier: lastOf(options.chain).systemIdentifier,
          onFile: (done) => onProgress(done / files, `fetching WAL, file ${done} of ${files}`),
        }),
      ),
    ),
  )
  if (restoreCommand === null) return null
  recorder.pass('wal', `${files} files`)
  const recovered = await recorder.look('replay', 'replay-failed', signal, () => replay(options, plan, restoreCommand))
  if (recovered === null) return null
  phases.add(recovered.phases)
  const { lsn, timeline, lastCommitAt } = recovered
  const restored: RestoredCluster = {
    bytes: made.bytes,
    walBytes: walBytes(plan),
    seconds: (clock.monotonic() - beganAt) / 1000,
    ...{ timeline, lsn: formatLsn(lsn), lastCommitAt: lastCommitAt?.toISOString() ?? null },
    target: options.target === null ? null : targetText(options.target),
  }
  recorder.pass('replay', `to ${restored.lsn} on timeline ${timeline}; ${account.isolation.detail}`)
  const source = await recorder.look('superuser', 'superuser-missing', signal, () => asSuperuser(recovered, signal))
  if (source === null) {
    await close(recovered, options)
    return null
  }
  const isLost = () =>
    withSession(source, { database: 'template1' }, (session) => session.query('select 1')).then(
      () => false,
      () => true,
    )
  return {
    copy: { server: { source, installation: options.installation, isLost }, env: { [workMarker]: folder } },
    restored,
    checkPages: (later) => pages(options, recovered, later),
    close: () => close(recovered, options),
  }
}

/** Nothing that is written has to last. */
const settings = {
  fsync: 'off',
  synchronous_commit: 'off',
  autovacuum: 'off',
  jit: 'off',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  maintenance_work_mem: '256MB',
}

async function replay(
  { config, clock, folder, place, installation, account, signal, onProgress }: PhysicalScratchOptions,
  { timeline, stop, mustReach, beyond }: ReplayPlan,
  restoreCommand: string,
): Promise<Recovered> {
  const { osUser, isolation } = account
  try {
    return await whileRoom({ clock, folder, check: 'replay', signal }, async (limited) =>
      recover({
        ...{ dataDirectory: dataIn(place), installation, restoreCommand, timeline, stop, mustReach, osUser, clock },
        action: 'promote',
        socketDirectory: await makeReachable(place, osUser),
        through: isolation.through,
        // A trigger on logins, or one that forbids what is done here, must not be asked.
        settings: { ...settings, ...(installation.major >= 17 ? { event_triggers: 'off' } : {}) },
        user: config.postgres.user,
        workFolder: folder,
        signal: limited,
        onProgress: ({ lsn }, message) => onProgress(shareOf(lsn, mustReach.lsn), message),
      }),
    )
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof LifeboatError)) throw error
    const log = await readFile(join(folder, 'recovery', 'server.log'), 'utf8').catch(() => '')
    const isKilled = /terminated by signal (?:9|15)\b/.test(log) || error.details?.exitCode === null
    if (isKilled) throw new VerdictError('inconclusive', 'scratch-server-lost', 'replay', error.message)
    // What comes after the end of a backup is not its fault: to its end it is replayed without a moment.
    if (error.code === 'not-recoverable' && beyond.length > 0)
      throw new VerdictError('inconclusive', 'moment-not-reached', 'replay', error.message)
    if (error.code === 'program-failed' || error.code === 'server-authentication')
      throw new VerdictError('inconclusive', 'scratch-server-failed', 'replay', error.message)
    throw error
  }
}

function walBytes({ needed, beyond, segmentSize }: ReplayPlan): number {
  return [...needed, ...beyond].filter((name) => walFileKind(name) === 'segment').length * segmentSize
}

function shareOf(lsn: bigint, end: bigint): number {
  return end === 0n ? 1 : Math.min(1, Number((lsn * 1000n) / end) / 1000)
}

/** The one that initdb made may have been forbidden to log in. */
async function asSuperuser({ server }: Recovered, signal: AbortSignal) {
  const found = await withSession(server.source, { database: 'template1', signal }, (session) =>
    session.query<{ name: string }>(
      'select rolname as name from pg_roles where rolsuper and rolcanlogin order by oid limit 1',
    ),
  )
  const [first] = found
  if (first !== undefined) return { ...server.source, user: first.name }
  const words = 'no superuser of the cluster may log in, so that its data cannot be looked at'
  throw new VerdictError('inconclusive', 'superuser-missing', 'superuser', words)
}

async function pages(
  { chain, place, folder, installation, account, phases, signal }: PhysicalScratchOptions,
  { server }: Recovered,
  recorder: LevelRecorder,
): Promise<void> {
  const name = 'page checksums'
  if (!lastOf(chain).physical.dataChecksums) {
    recorder.pass(name, 'the cluster has none: damage from before the backup is not seen by them')
    return
  }
  const work = async () => {
    await server.stop('fast')
    const { osUser: user, isolation } = account
    const env = { HOME: place, [workMarker]: folder }
    return checkPages(installation, dataIn(place), {
      ...{ user, through: isolation.through, cwd: place, bare: true, env, signal },
    })
  }
  await recorder.look(
    name,
    'checksums-unchecked',
    signal,
    async () => {
      const found = await phases.time('checksums', work)
      if (found === null) return recorder.pass(name, 'the cluster has none any more')
      if (found.bad > 0) {
        const words = `${found.bad} of ${found.blocks} pages are damaged, and were when the backup was taken: ${found.findings.join('; ')}`
        throw new VerdictError('fail', 'page-checksum', name, words)
      }
      recorder.pass(name, `${found.blocks} pages`)
    },
    'inconclusive',
  )
}

async function close({ server }: Recovered, { log, folder }: PhysicalScratchOptions): Promise<void> {
  await server.stop('immediate').catch((error: unknown) => {
    log.warn({ folder, ...toFailure(error) }, 'the scratch server could not be stopped')
  })
}

function dataIn(place: string): string {
  return join(place, 'data')
}

function lastOf(chain: readonly SeenMember[]): SeenMember['manifest'] {
  const last = chain.at(-1)
  if (last === undefined) throw new Error('unreachable: a chain has the backup itself')
  return last.manifest
}
