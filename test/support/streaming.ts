import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import type { StreamState } from '../../src/domain/stream.ts'
import type { Partial } from '../../src/streaming/partial.ts'
import { receivingDirectory } from '../../src/streaming/receiving-directory.ts'
import { createStreamer, type Streamer, type StreamerOptions } from '../../src/streaming/streamer.ts'
import { keptLog } from './log.ts'
import type { Cluster } from './postgres.ts'
import { openDirectory } from './scratch.ts'
import { untilAnswer } from './until.ts'

/** The real time, with short pauses; what hangs for a minute need not be waited for. */
class QuickClock implements Clock {
  #ahead = 0
  now = () => systemClock.now()
  monotonic = () => systemClock.monotonic() + this.#ahead
  sleep = (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 25), signal)
  skip(ms: number): void {
    this.#ahead += ms
  }
}

export interface Streaming {
  readonly streamer: Streamer
  readonly archive: string
  readonly receiving: string
  readonly workFolder: string
  readonly partials: readonly Partial[]
  readonly lines: readonly Record<string, unknown>[]
  readonly clock: QuickClock
  /** Resolves with the state when it is as asked. */
  until(what: string, is: (state: StreamState) => boolean): Promise<StreamState>
  untilStreaming(): Promise<StreamState>
  /** Resolves when all that the server has now is received, and says where that is. */
  untilAll(cluster: Cluster): Promise<bigint>
  /** Process ids of pg_receivewal. */
  receivers(): Promise<readonly number[]>
}

/** A streamer on a real cluster, not started yet, and ended with the test. */
export async function streamingFrom(
  t: Test,
  cluster: Pick<Cluster, 'source' | 'installation'>,
  options: globalThis.Partial<StreamerOptions> = {},
): Promise<Streaming> {
  const base = await openDirectory(t)
  const archive = options.archive ?? join(base, 'archive')
  const workFolder = join(base, 'work')
  const partials: Partial[] = []
  const { log, lines } = keptLog()
  const clock = new QuickClock()
  const streamer = createStreamer({
    source: cluster.source,
    maintenanceDatabase: 'postgres',
    binDir: cluster.installation.directory,
    slot: 'lifeboat',
    synchronous: true,
    shipEveryMs: 50,
    workFolder,
    isOurs: () => true,
    shipPartial: async (partial) => void partials.push(partial),
    clock,
    log,
    ...options,
    archive,
  })
  t.teardown(() => streamer.stop())
  const until = (what: string, is: (state: StreamState) => boolean) =>
    untilAnswer(what, async () => {
      const state = streamer.state()
      return is(state) && state
    }).catch((error: Error) => {
      throw new Error(
        `${error.message}: ${JSON.stringify(streamer.state(), (_, one) => (typeof one === 'bigint' ? String(one) : one))}`,
      )
    })
  return {
    streamer,
    archive,
    receiving: join(archive, receivingDirectory),
    workFolder,
    partials,
    lines,
    clock,
    until,
    untilStreaming: () => until('streaming', ({ phase, isUp }) => phase === 'streaming' && isUp === true),
    untilAll: async (of) => {
      const end = await endOf(of)
      await until('all is received', ({ position }) => position !== null && position >= end)
      return end
    },
    receivers: () => processesIn(workFolder),
  }
}

/** Where the server's WAL ends, durably. */
export async function endOf(cluster: Pick<Cluster, 'sql'>): Promise<bigint> {
  const [row] = await cluster.sql<{ lsn: string }>(`select (pg_current_wal_flush_lsn() - '0/0')::text as lsn`)
  return BigInt(row?.lsn ?? 0)
}

/** Segments in a directory. */
export async function segmentsIn(directory: string): Promise<readonly string[]> {
  return (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$/.test(name)).toSorted()
}

async function processesIn(workFolder: string): Promise<readonly number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const environ = await readFile(`/proc/${name}/environ`, 'utf8').catch(() => '')
    if (environ.split('\0').includes(`LIFEBOAT_WORK=${workFolder}`)) found.push(Number(name))
  }
  return found
}

/** Lines of pg_hba.conf that let everybody receive WAL. */
export const replicationHba = ['local replication all trust', 'host replication all 127.0.0.1/32 scram-sha-256']
