import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { archiveCommand } from '../../src/postgres/archiving.ts'
import { connect, type Session } from '../../src/postgres/connection.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { Random } from '../chaos/random.ts'
import { fetchByHand, storeBaseBackup } from '../support/base-backup.ts'
import { startCopy } from '../support/copy.ts'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { untilAnswer } from '../support/until.ts'
import { makeArchive } from '../support/wal.ts'
import type { TruthOptions } from './truth-sidecar.ts'

const segmentSize = 1024 * 1024

/** One commit that the server has confirmed, and when. */
interface Confirmed {
  readonly id: number
  readonly at: number
}

/**
 * A server under load that archives, and a sidecar that copies and says how far one can go back to. Again and again one of
 * them, or both, is killed. Then what the repository holds at that instant is brought back by standard tools, and everything
 * that had been confirmed before the moment that the sidecar had named last must be in it.
 */
export async function truth(t: Test, { major, kills, seed }: { major: Major; kills: number; seed: number }) {
  t.comment(`PostgreSQL ${major}, ${kills} kills, seed ${seed}`)
  const random = new Random(seed)
  const archive = await makeArchive(t)
  const cluster = await startCluster(t, {
    major,
    hba: ['local replication all trust'],
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: {
      archive_mode: 'on',
      archive_command: `${archiveCommand(archive.programs, archive.directory)} || exit 1`,
      ...{ archive_timeout: '1', full_page_writes: 'on', wal_writer_delay: '100ms' },
    },
  })
  await cluster.sql(
    'create table noted (id int, at timestamptz default clock_timestamp()); create table filler (x text)',
  )
  const [server] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  const root = join(archive.base, 'repository')
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: 'test', storage, clock: systemClock })
  const manifest = await storeBaseBackup(cluster, repository, join(archive.base, 'staged'))
  const sidecar = new Sidecar({
    stateFile: join(archive.base, 'state', 'lifeboat.db'),
    ...{ repository: root, archive: archive.directory, segmentSize, systemIdentifier: server?.id ?? '' },
    source: cluster.source,
  })
  t.teardown(() => sidecar.kill())
  sidecar.start()
  const load = new Load(cluster)
  t.teardown(() => load.stop())
  load.start()
  await untilAnswer('a recovery point', async () => sidecar.point !== null)

  let [promised, before] = [0, 0]
  for (let round = 0; round < kills; round += 1) {
    const first = sidecar.points
    await untilAnswer('what it says after its start', async () => sidecar.point !== null && sidecar.points > first)
    // Now and then it is killed while it catches up.
    if (random.next() < 0.7) await untilAnswer('a later one', async () => (sidecar.point ?? 0) > before)
    await delay(random.between(0, 1500))
    const deed = random.pick(['server', 'sidecar', 'both'] as const)
    // No await between: this is the instant.
    const [point, confirmed] = [sidecar.point ?? 0, [...load.confirmed]]
    if (deed !== 'server') sidecar.signal('SIGKILL')
    else sidecar.signal('SIGSTOP')
    if (deed !== 'sidecar') await killOrphans(cluster.server.dataDirectory)
    const copy = join(archive.base, `round-${round}`)
    await mkdir(copy, { mode: 0o755 })
    if (archive.user !== null) await chown(copy, archive.user.uid, archive.user.gid)
    await runProgram({ program: 'cp', args: ['-al', join(root, 'test'), join(copy, 'repository')] })

    const restored = await restore(t, { cluster, copy, id: manifest.backupId })
    const due = confirmed.filter(({ id, at }) => at < point && !load.lost.has(id))
    const absent = due.filter(({ id }) => !restored.ids.has(id))
    t.same(absent, [], `round ${round}, ${deed}: all of ${due.length} are there`)
    const lag = ((confirmed.at(-1)?.at ?? 0) - point) / 1000
    t.comment(
      `${deed}: ${confirmed.length - due.length} of ${confirmed.length} not promised, ${lag.toFixed(1)} s; ${restored.ids.size} there`,
    )
    promised += due.length
    before = point
    await rm(copy, { recursive: true })

    if (deed !== 'sidecar') {
      await cluster.server.stop('immediate')
      await cluster.server.start()
      await load.noteLost()
    }
    if (deed === 'server') sidecar.signal('SIGCONT')
    else {
      await sidecar.kill()
      sidecar.start()
    }
  }
  t.ok(promised > 0, `${promised} commits were promised`)
  await load.stop()

  // Idle, with everything stored: it is the present. After a crash archive_timeout is looked at from the next checkpoint on.
  await cluster.sql('select pg_switch_wal()')
  await untilAnswer('the present', async () => {
    const now = Date.now()
    await untilAnswer('the next one', async () => (sidecar.saidAt > now ? true : undefined))
    return sidecar.exposure === 0 && now - (sidecar.point ?? 0) < 2000
  })
  const last = sidecar.point ?? 0
  await killOrphans(cluster.server.dataDirectory)
  const stopped = Date.now()
  sidecar.signal('SIGKILL')
  await sidecar.kill()
  sidecar.start()
  await untilAnswer('what it remembers', async () => sidecar.saidAt > stopped && sidecar.point !== null)
  t.ok((sidecar.point ?? 0) <= stopped && (sidecar.point ?? 0) >= last - 11_000, 'and stands still without a server')
  await cluster.server.stop('immediate')
}

/** Brings back what is in a copy of the repository, and gives the commits in it. */
async function restore(
  t: Test,
  { cluster, copy, id }: { readonly cluster: Cluster; readonly copy: string; readonly id: string },
): Promise<{ readonly ids: ReadonlySet<number> }> {
  const [data, wal] = [join(copy, 'data'), join(copy, 'wal')]
  await fetchByHand(join(copy, 'repository'), id, data, wal)
  const server = await startCopy(t, {
    ...{ installation: cluster.installation, directory: data, superuser: 'postgres', signalFile: 'recovery.signal' },
    settings: {
      restore_command: `cp '${wal.replaceAll('%', '%%')}/%f' "%p"`,
      ...{ recovery_target_timeline: '1', archive_mode: 'off', hot_standby: 'off' },
    },
  })
  const rows = await server.sql<{ id: number }>('select id from noted')
  await server.stop()
  return { ids: new Set(rows.map((row) => row.id)) }
}

/** Several who commit one after the other: some wait for the disk, some do not. */
class Load {
  readonly confirmed: Confirmed[] = []
  /** Confirmed, and lost with the server: as asynchronous ones may be. */
  readonly lost = new Set<number>()
  readonly #cluster: Cluster
  readonly #stopping = new AbortController()
  #next = 0
  #running: Promise<unknown> = Promise.resolve()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  start(): void {
    const note = async (session: Session) => {
      const id = ++this.#next
      await session.query('insert into noted (id) values ($1)', [id])
      this.confirmed.push({ id, at: Date.now() })
    }
    const fill = async (session: Session) => {
      await session.query(`insert into filler select repeat(md5(i::text), 20) from generate_series(1, 200) i`)
      await delay(50)
    }
    const all = [this.#repeat('on', note), this.#repeat('off', note), this.#repeat('on', fill)]
    this.#running = Promise.all(all)
  }

  async #repeat(synchronous: 'on' | 'off', work: (session: Session) => Promise<void>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        const settings = { synchronous_commit: synchronous }
        const session = await connect(this.#cluster.source, { database: 'postgres', settings })
        while (!this.#stopping.signal.aborted) {
          await work(session)
          await delay(5)
        }
        await session.close()
      } catch {
        await delay(50)
      }
    }
  }

  /** What the server does not have any more after a crash nobody can bring back. */
  async noteLost(): Promise<void> {
    const confirmed = [...this.confirmed]
    const rows = await this.#cluster.sql<{ id: number }>('select id from noted')
    const there = new Set(rows.map(({ id }) => id))
    for (const { id } of confirmed) if (!there.has(id)) this.lost.add(id)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }
}

/** The process of the sidecar. */
class Sidecar {
  /** What it said last; it stays when it is killed. */
  point: number | null = null
  exposure: number | null = null
  saidAt = 0
  points = 0
  readonly #options: TruthOptions
  #child: ChildProcess | null = null

  constructor(options: TruthOptions) {
    this.#options = options
  }

  start(): void {
    this.point = null
    const args = [join(import.meta.dirname, 'truth-sidecar.ts'), JSON.stringify(this.#options)]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#child = child
    createInterface(child.stdout).on('line', (line) => {
      const said = JSON.parse(line) as { point: number | null; exposureBytes: number | null }
      if (this.#child !== child) return
      this.point = said.point
      this.exposure = said.exposureBytes
      this.saidAt = Date.now()
      this.points += 1
    })
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** Resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}
