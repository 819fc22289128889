import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { makeRepositories } from '../../src/repositories.ts'
import { cli } from '../support/cli.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { segmentBytes } from '../support/wal.ts'

const mebibyte = 2 ** 20

t.test('wal status and wal gaps look by themselves', async (t) => {
  const cluster = await startCluster(t, { major: 15, initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'] })
  const [server] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  const systemIdentifier = server?.id ?? ''
  const directory = await scratchDirectory(t)
  const archive = join(directory, 'archive')
  await mkdir(join(archive, '.incoming'), { recursive: true })
  const yaml = (wal: object) =>
    sidecarYaml(cluster, directory, {
      repositories: { local: join(directory, 'local'), second: join(directory, 'second') },
      yaml: { wal: { archive, ...wal } },
    })
  const file = join(directory, 'lifeboat.yaml')
  await writeFile(file, yaml({}))
  const config = await loadConfig({ path: file, env: {} })
  const [local, second] = makeRepositories(config, { clock: systemClock, version: '1', ledger: null })
  if (local === undefined || second === undefined) return t.fail('there are two repositories')
  const name = (segment: number) => segmentName(1, segment, mebibyte)
  const bytes = (segment: number) => {
    const made = segmentBytes(name(segment))
    made.writeBigUInt64LE(BigInt(systemIdentifier), 24)
    return made
  }
  const store = async ({ repository }: typeof local, ...segments: readonly number[]) => {
    for (const segment of segments) {
      const about = { systemIdentifier, name: name(segment), hash: '0123456789ab' }
      await repository.wal.put(about, zstdCompressSync(bytes(segment)))
    }
  }
  await store(local, 1, 2, 4)
  await store(second, 1, 2, 3, 4)
  // The server itself is at segment 5 or later; the archive has the newest finished one.
  const [place] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as name')
  const current = Number.parseInt(place?.name.slice(16) ?? '', 16)
  for (let segment = 5; segment < current; segment += 1) {
    await writeFile(join(archive, name(segment)), bytes(segment))
  }

  const status = await cli(['wal', 'status', '-c', file])
  t.equal(status.err, '')
  t.equal(status.code, 0)
  t.match(status.out, new RegExp(`system identifier ${systemIdentifier}`))
  t.match(status.out, /writes at 0\/\S+ on timeline 1/)
  t.match(status.out, /archiver\s+off: archive_mode is off/)
  t.match(status.out, new RegExp(`local\\s+3 .*no physical backup.* ${current - 5}\\s+1\n`), 'backlog and missing')
  t.match(status.out, new RegExp(`second\\s+4 .* ${current - 5}\\s+0\n`))
  const { out } = await cli(['wal', 'status', '-c', file, '--json'])
  t.match(JSON.parse(out), { systemIdentifier, archiver: { state: 'off' }, archive: { segments: current - 5 } })

  const gaps = await cli(['wal', 'gaps', '-c', file])
  t.equal(gaps.code, 1)
  t.match(gaps.out, new RegExp(`local\\s+1\\s+${name(3)}\\s+${name(3)}\\s+1\\s+in second\n`))
  t.notMatch(gaps.out, /second\s+1/)
  t.match(JSON.parse((await cli(['wal', 'gaps', '-c', file, '--json'])).out), [
    { repository: 'local', missingSegments: 1, gaps: [{ first: name(3), elsewhere: ['second'], acknowledged: null }] },
    { repository: 'second', missingSegments: 0, gaps: [] },
  ])

  await t.test('an acknowledged hole is told, and is no failure', async (t) => {
    const hole = { first: name(3), reason: 'the disk was lost', until: '2999-01-01T00:00:00Z' }
    await writeFile(file, yaml({ holes: [hole] }))
    const known = await cli(['wal', 'gaps', '-c', file])
    t.equal(known.code, 0, known.err)
    t.match(known.out, /acknowledged until 2999-01-01 00:00:00Z: the disk was lost; in second/)
  })

  await t.test('what cannot be looked at is told beside the rest', async (t) => {
    await cluster.server.stop()
    await rm(archive, { recursive: true })
    const half = await cli(['wal', 'status', '-c', file])
    t.not(half.code, 0)
    t.match(half.out, /server\s+not seen/)
    t.match(half.out, /local\s+3/)
    t.match(half.err, /archive/)
    t.match(half.err, /connect|reach/)
  })
})

t.test('asked for what there is not', async (t) => {
  const directory = await scratchDirectory(t)
  const file = join(directory, 'lifeboat.yaml')
  const watch = [{ directory, pattern: '{database}_{timestamp}.sql' }]
  await writeFile(file, JSON.stringify({ cluster: 'test', stateDir: join(directory, 'state'), watch }))
  const { code, err } = await cli(['wal', 'gaps', '-c', file])
  t.equal(code, 2)
  t.match(err, /no repository is configured/)
  t.match((await cli(['wal', 'holes', '-c', file])).err, /one of lifeboat wal setup, status, gaps, verify, fetch/)
})
