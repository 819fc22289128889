import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { defaultSegmentSize, segmentName } from '../../src/domain/wal.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { chooseServer, findInstallations, programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { startScratchServer } from '../../src/postgres/scratch-server.ts'
import { segmentHeader } from '../support/wal-segments.ts'
import { benchTokenHash, startSidecar } from './sidecar.ts'
import { type Figure, mebibytes, percentile, scrape } from './table.ts'

const port = 21_195
const burst = 100_000
const minutes = 1.5

/** A whole sidecar, with its server, into whose archive come the segments of a long outage at once: it ships them. */
export async function benchBurst(base: string): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'burst-'))
  await chmod(directory, 0o711)
  const archive = join(directory, 'archive')
  await mkdir(join(archive, '.incoming'), { recursive: true })
  await mkdir(join(directory, 'repository'))
  const user = await serverOsUser('postgres')
  const installation = chooseServer(await findInstallations(null), 15)
  const server = await startScratchServer({
    ...{ installation, directory: join(directory, 'cluster'), osUser: user, superuser: 'postgres' },
    workFolder: directory,
    settings: { wal_level: 'replica', archive_mode: 'on', archive_command: `cp %p ${archive}/%f` },
  })
  let sidecar: Awaited<ReturnType<typeof startSidecar>> | null = null
  try {
    await server.stop('fast')
    const after = segmentName(1, burst + 1, defaultSegmentSize)
    await runProgram({
      program: programPath(installation, 'pg_resetwal'),
      args: ['-l', after, server.dataDirectory],
      user,
    })
    await server.start()
    const { source } = server
    const system = await withSession(source, { database: 'postgres' }, async (session) => {
      const [row] = await session.query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
      return row?.id ?? ''
    })
    const config = {
      ...{ cluster: 'bench', listen: `127.0.0.1:${port}`, stateDir: join(directory, 'state') },
      postgres: { host: source.host, port: source.port, user: 'postgres', binDir: installation.directory },
      repositories: [{ name: 'local', url: `file://${join(directory, 'repository')}` }],
      schedule: { dump: 'off', verify: 'off' },
      wal: { archive },
      auth: { tokens: [{ name: 'bench', role: 'admin', sha256: benchTokenHash }] },
    }
    sidecar = await startSidecar(directory, JSON.stringify(config), port)
    const calm = percentile(await scrape(`${sidecar.url}/metrics`, AbortSignal.timeout(10_000)), 0.99)
    const before = await sidecar.rssBytes()
    for (let segment = 1; segment <= burst; segment += 1) {
      const name = segmentName(1, segment, defaultSegmentSize)
      const file = openSync(join(archive, name), 'w', 0o644)
      writeSync(file, segmentHeader(name, { system, size: defaultSegmentSize }))
      ftruncateSync(file, defaultSegmentSize)
      closeSync(file)
      if (segment % 1000 === 0) await delay(1)
    }
    const took = await scrape(`${sidecar.url}/metrics`, AbortSignal.timeout(minutes * 60_000))
    const text = await (await fetch(`${sidecar.url}/metrics`)).text()
    const stored = Number(/^lifeboat_wal_segments\{.*\} (\d+)$/m.exec(text)?.[1])
    const peak = await sidecar.peakBytes()
    const p99 = percentile(took, 0.99)
    return [
      {
        what: `/metrics of a whole sidecar while ${burst.toLocaleString('en')} new segments are shipped, p99 of ${took.length.toLocaleString('en')} scrapes (before it ${calm.toFixed(1)} ms; ${stored.toLocaleString('en')} stored meanwhile)`,
        measured: `${p99.toFixed(1)} ms`,
        goal: '10 ms',
        met: p99 <= 10,
      },
      {
        what: `most resident memory of that sidecar (before it ${mebibytes(before)})`,
        measured: mebibytes(peak),
        goal: '250 MiB',
        met: peak <= 250 * 1_048_576,
      },
    ]
  } finally {
    await sidecar?.stop()
    await server.remove()
    await rm(directory, { recursive: true, force: true })
  }
}
