import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { RecoveryReport, TargetReport } from '../../src/observe/recovery-report.ts'
import { walTimelinePrefix } from '../../src/repository/layout.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { cli } from '../support/cli.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'

interface Answer {
  readonly target: TargetReport | null
  readonly repositories: readonly RecoveryReport[]
  readonly failures: readonly { readonly repository: string }[]
}

t.test('by the repositories alone: no server, no sidecar, no state', { timeout: 120_000 }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { major: 17 })
  const directory = await openDirectory(t)
  const repositories = { local: join(directory, 'local'), empty: join(directory, 'empty') }
  const taken = await sidecar(t, { repositories: { local: repositories.local } })
  const { sidecar: one, systemIdentifier } = taken
  t.match(await one.run('full'), { state: 'succeeded', failure: null })
  await cluster.sql('create table t as select 1 as i; checkpoint')
  t.match(await one.run('incremental'), { state: 'succeeded', failure: null })
  const [full, incremental] = await one.manifests()
  if (full === undefined || incremental === undefined) return t.fail('there are two backups')
  t.equal(incremental.parent, full.backupId)
  await cluster.server.stop()
  await one.core.close()

  const elsewhere = await scratchDirectory(t)
  const file = join(elsewhere, 'lifeboat.yaml')
  const configuration = JSON.parse(one.yaml) as { readonly repositories: readonly object[] }
  const write = (names: readonly (keyof typeof repositories)[]) =>
    writeFile(
      file,
      JSON.stringify({
        ...configuration,
        stateDir: join(elsewhere, 'state'),
        repositories: names.map((name) => ({ name, url: `file://${repositories[name]}` })),
      }),
    )
  await write(['local'])
  const lifeboat = (...argv: readonly string[]) => cli(['plan', '-c', file, ...argv])
  const ask = async (...argv: readonly string[]) => JSON.parse((await lifeboat(...argv, '--json')).out) as Answer
  const [from, after] = [full.stop.time, incremental.stop.time]

  const windows = await lifeboat()
  t.equal(windows.code, 0, windows.err)
  t.match(windows.out, new RegExp(`local +${second(from)}Z +not known +${full.backupId} +the newest WAL`))

  const latest = await ask('--latest')
  t.match(latest, {
    target: { kind: 'latest' },
    repositories: [
      {
        ...{ repository: 'local', systemIdentifier, recoverable: true, refused: null, missing: [] },
        plan: {
          ...{ chain: [full.backupId, incremental.backupId], timeline: 1, postgres: '17' },
          ...{ from: incremental.start.lsn, walBytesAreUpperBound: false, time: { seconds: null } },
        },
        warnings: [{ code: 'never-proven' }],
      },
    ],
  })
  const plan = latest.repositories[0]?.plan
  t.ok((plan?.walBytes ?? 0) > 0 && (plan?.walBytes ?? 0) < 16 * 2 ** 20 * (plan?.segments ?? 0), 'as stored')
  t.ok((plan?.disk.peak ?? 0) > (plan?.disk.data ?? 0) && (plan?.disk.data ?? 0) > 10_000_000)

  const moment = await lifeboat('--at', after.replace('Z', '456+00:00'))
  t.equal(moment.code, 0, moment.err)
  t.match(moment.out, new RegExp(`local: ${after.replace('T', ' ').replace('Z', '456')}\\+00 can be restored`))
  t.match(moment.out, new RegExp(`backups +${full.backupId}, ${incremental.backupId}`))
  t.match(moment.out, /warning: nobody noted when the WAL was written/)
  t.match(await ask('--at', from), { repositories: [{ plan: { chain: [full.backupId] } }] })

  const early = await lifeboat('--at', '2001-01-01 12:00')
  t.equal(early.code, 1)
  t.match(early.out, /note: it names no time zone, and was taken for UTC/)
  t.match(early.out, new RegExp(`cannot be restored\n.*no backup is as old(.|\n)*from ${from} on`))
  t.match((await lifeboat('--lsn', 'FF/0')).out, /WAL that is stored ends at/)
  t.match((await lifeboat('--name', "x'; drop")).out, /"x'; drop" can be restored(.|\n)*restore points are not listed/)
  t.equal((await lifeboat('--immediate', '--backup', full.backupId)).code, 0)

  await t.test('slips', async (t) => {
    for (const [argv, words] of [
      [['--at', '2026-10-25 02:30 Europe/Berlin'], /comes twice/],
      [['--at', 'now'], /a word is no moment/],
      [['--latest', '--lsn', '0/1'], /exclude one another/],
      [['--lsn', '0'], /no place in the WAL/],
      [['--name', 'ü'.repeat(32)], /63 bytes/],
      [['--timeline', '0000000A'], /no timeline.*\n.*hexadecimal/],
      [['--repository', 'nowhere'], /there is no repository/],
    ] as const) {
      const { code, err } = await lifeboat(...argv)
      t.equal(code, 2, argv.join(' '))
      t.match(err, words)
    }
  })

  await t.test('what this host remembers cannot be read', async (t) => {
    await mkdir(join(elsewhere, 'state', 'lifeboat.db'), { recursive: true })
    const { code, out, err } = await lifeboat('--latest')
    t.equal(code, 0, err)
    t.match(err, /^warning: planned without what this host remembers: /)
    t.match(out, /local: the latest moment can be restored/)
    await rm(join(elsewhere, 'state'), { recursive: true })
  })

  await t.test('one repository that cannot be looked at takes nothing from the others', async (t) => {
    await symlink(repositories.empty, repositories.empty)
    await write(['empty', 'local'])
    const both = await lifeboat('--latest')
    t.equal(both.code, 0)
    t.match(both.out, /local: the latest moment can be restored/)
    t.match(both.out, /\n {2}next: lifeboat restore --to DIRECTORY --latest/)
    t.match(both.err, /empty/)
    t.equal((await lifeboat()).code, 1, 'what is not known is told by the exit code')
    t.match(await ask('--latest'), { failures: [{ repository: 'empty' }] })
    await rm(repositories.empty)
  })

  await t.test('an empty one, and one whose WAL is gone', async (t) => {
    await write(['empty', 'local'])
    await rm(join(repositories.local, walTimelinePrefix(one.config.cluster, systemIdentifier, 1)), { recursive: true })
    const gone = await lifeboat('--latest')
    t.equal(gone.code, 1)
    t.match(gone.out, /empty: the latest moment cannot be restored(.|\n)*local: the latest moment cannot be restored/)
    t.match((await lifeboat()).out, /empty: nothing: no WAL.*\n {2}HINT: set wal\.archive(.|\n)*local: nothing: /)
  })
})

function second(time: string): string {
  return time.slice(0, 19).replace('T', ' ')
}
