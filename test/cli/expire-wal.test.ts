import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { cli } from '../support/cli.ts'
import { publishFull, storedSystem, storeWal } from '../support/physical.ts'
import { storedCluster } from '../support/stored.ts'

const daysAgo = (days: number) => new Date(systemClock.now().getTime() - days * 86_400_000)

async function configured(t: Test, retention: object) {
  const directory = t.testdir({})
  const root = join(directory, 'one')
  const config = join(directory, 'lifeboat.yaml')
  await writeFile(
    config,
    JSON.stringify({
      cluster: storedCluster,
      stateDir: join(directory, 'state'),
      postgres: { host: join(directory, 'nowhere') },
      repositories: [{ name: 'one', url: `file://${root}`, retention }],
    }),
  )
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'one', cluster: storedCluster, storage, clock: systemClock })
  const wal = async (first: number, last: number, days: number) => {
    for (let segment = first; segment <= last; segment += 1)
      await storeWal(root, segmentName(1, segment, 16 * 1024 * 1024), daysAgo(days), { text: 'ten bytes.' })
  }
  const stored = () =>
    readdirSync(join(root, storedCluster, 'wal'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.zst'),
    ).length
  const lifeboat = (...argv: string[]) => cli(['expire', '-c', config, ...argv])
  return { repository, wal, stored, lifeboat }
}

t.test('a dry run tells what stays of the WAL, and why', async (t) => {
  const { repository, wal, stored, lifeboat } = await configured(t, { keepFor: '10d', keepAtLeast: 1 })
  const old = await publishFull(repository, { startedAt: daysAgo(20), lsn: '0/2000028', random: '000001' })
  const kept = await publishFull(repository, { startedAt: daysAgo(2), lsn: '0/5000028', random: '000002' })
  await wal(1, 3, 30)
  await wal(4, 6, 5)
  const { code, out, err } = await lifeboat('--dry-run')
  t.same([code, err], [0, ''])
  const lines = out.split('\n')
  t.match(lines[0], 'one: 2 backups, 1 would go, 1 stay')
  t.same(
    lines.slice(4, 9).map((line) => line.replace(/ {2,}/g, ' | ')),
    [
      `one: WAL of ${storedSystem}: 3 (30 B) files would go, 3 (30 B) stay`,
      ' | TIMELINE | FILES | SIZE | DECISION | WHY',
      ' | 1 | 3 | 30 B | goes | no physical backup needs it, and it was stored longer than walKeepFor ago',
      ' | 1 | 1 | 10 B | stays | it, or WAL before it, was stored less than walKeepFor ago',
      ` | 1 | 2 | 20 B | stays | a physical backup that stays needs it (${kept.backupId})`,
    ],
  )
  t.equal(stored(), 6)
  const [told] = JSON.parse((await lifeboat('--dry-run', '--json')).out)
  t.match(told.wal, [
    {
      systemIdentifier: storedSystem,
      backups: 1,
      parts: [
        { timeline: 1, keep: false, reason: 'expired', backupId: null, files: 3, bytes: 30 },
        { timeline: 1, keep: true, reason: 'window', backupId: null, files: 1, bytes: 10 },
        { timeline: 1, keep: true, reason: 'backup', backupId: kept.backupId, files: 2, bytes: 20 },
      ],
    },
  ])

  const run = await lifeboat()
  t.equal(run.code, 0)
  t.match(run.out, new RegExp(`^removed ${old.backupId} of the whole cluster in one\\nremoved 3 files of WAL`))
  t.equal(stored(), 3)
  t.equal((await lifeboat()).out, 'nothing had to go\n')
})

t.test('WAL alone, which a clock of 100 days ahead makes look old, and all of it for ever', async (t) => {
  const { wal, stored, lifeboat } = await configured(t, { keepFor: '10d' })
  await wal(1, 3, 100)
  const blocked = await lifeboat('--dry-run', '--json')
  t.equal(blocked.code, 6)
  t.match(JSON.parse(blocked.out), [{ blocked: { cause: 'clock-forward' }, wal: null }])
  const confirmed = await lifeboat('--dry-run', '--confirm-clock')
  t.equal(confirmed.code, 0)
  t.match(confirmed.out, /one: no physical backup of it is here: what stays may serve base backups of others/)
  t.match(confirmed.out, /2 \(20 B\) files would go, 1 \(10 B\) stay/)
  t.equal(stored(), 3)
  const forever = await configured(t, { keepFor: '10d', walKeepFor: 'forever' })
  await forever.wal(1, 3, 100)
  t.match(JSON.parse((await forever.lifeboat('--dry-run', '--confirm-clock', '--json')).out), [{ wal: null }])
})
