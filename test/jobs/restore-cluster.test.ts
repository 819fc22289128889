import { lstat, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parseLsn } from '../../src/domain/lsn.ts'
import type { RestoreWish } from '../../src/domain/restore-wish.ts'
import { markRecovery } from '../../src/physical/restore-mark.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { askServer, beside, prepareRestores, rowsOf, sourceOf } from '../support/restoring.ts'
import { openDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

for (const major of [15, 17] as const)
  t.test(`a cluster as it was, on PostgreSQL ${major}`, { timeout: 300_000 }, async (t) => {
    const ground = await prepareRestores(t, major)
    const { cluster, sidecar, moments, archive } = ground
    const cases: readonly { name: string; wish: Partial<RestoreWish>; rows: string[] }[] = [
      {
        name: 'before a table was dropped',
        wish: { target: { kind: 'time', at: moments.before } },
        rows: ['one', 'two'],
      },
      { name: 'to a place', wish: { target: { kind: 'lsn', lsn: moments.place } }, rows: ['one', 'two'] },
      { name: 'to a restore point', wish: { target: { kind: 'name', name: 'point' } }, rows: ['one', 'two'] },
      { name: 'to the end of the backup', wish: { target: { kind: 'immediate' } }, rows: ['one'] },
      { name: 'paused', wish: { target: { kind: 'name', name: 'point' }, action: 'pause' }, rows: ['one', 'two'] },
    ]
    for (const { name, wish, rows } of cases)
      t.test(name, async (t) => {
        const { run, to } = await ground.restore(t, wish)
        t.match(run, { state: 'succeeded', failure: null, items: [{ restored: { directory: to } }] })
        const restored = run.items[0]?.restored
        const source = sourceOf(run)
        t.same(await rowsOf(source), rows)
        const [state] = await askServer<{ recovering: boolean; archives: string; listens: string }>(
          source,
          `select pg_is_in_recovery() as recovering, current_setting('archive_mode') as archives,
             current_setting('listen_addresses') as listens`,
        )
        t.same(state, { recovering: wish.action === 'pause', archives: 'off', listens: '' })
        t.equal(restored?.newTimeline === null, wish.action === 'pause')
        t.ok((parseLsn(restored?.lsn ?? '') ?? 0n) > 0n)
        const settings = await readFile(join(to, 'postgresql.auto.conf'), 'utf8')
        t.match(settings, /^archive_mode = 'off'$/m)
        t.equal(
          /^(?:recovery_target|restore_command)/m.test(settings),
          wish.action === 'pause',
          'no target outlives it',
        )
        const waits = (await readdir(join(to, 'pg_wal', 'archive_status'))).includes('00000002.history.ready')
        t.equal(waits, wish.action !== 'pause', 'the history is archived once it archives')
        t.notOk((await readdir(to)).includes('lifeboat-restore-incomplete'))
        t.same(await beside(to), [], 'nothing is left beside it')
        if (wish.action === 'pause') {
          await askServer(source, 'select pg_wal_replay_resume()')
          await untilAnswer('it is promoted', async () => {
            const [row] = await askServer<{ over: boolean }>(source, 'select not pg_is_in_recovery() as over')
            return row?.over === true
          })
        }
        await askServer(source, 'create table after_restore (); checkpoint')
        t.notOk(
          (await readdir(archive)).some((file) => file.startsWith('00000002')),
          'nothing is archived',
        )
      })

    t.test('what was committed by a microsecond, no more and no less', async (t) => {
      const { commits } = moments
      const chosen = commits[Math.floor(commits.length / 2)] ?? commits[0]
      // A commit of that very microsecond is in it, with its own moment; and out with the one before.
      const micros = (chosen?.at ?? 0n) - (major === 15 ? 0n : 1n)
      const at = { at: new Date(Number(micros / 1000n)), micros: Number(micros % 1000n) }
      const due = commits.filter((one) => one.at <= micros).map(({ id }) => id)
      t.ok(due.length > 0 && due.length < commits.length)
      const { run } = await ground.restore(t, { target: { kind: 'time', ...at } })
      t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
      const there = await askServer<{ id: number }>(sourceOf(run), 'select id from noted', 'app')
      t.same(
        there.map(({ id }) => id).toSorted((a, b) => a - b),
        due.toSorted((a, b) => a - b),
      )
      // What was rolled back since then has a moment, too.
      const last = BigInt(Date.parse(run.items[0]?.restored?.lastCommitAt ?? ''))
      t.ok(last >= (commits[due.length - 1]?.at ?? 0n) / 1000n && last <= micros / 1000n)
    })

    t.test('all that there is', async (t) => {
      const { run, to } = await ground.restore(t, { target: { kind: 'latest' } })
      t.match(run, { state: 'succeeded' })
      // As if it had been killed between the promotion and the end.
      const backupId = run.items[0]?.backupId ?? null
      const owner = await serverOsUser('postgres')
      await markRecovery(to, { runId: run.id, backupId, tablespaces: [], owner })
      const again = await ground.restore(t, { to, target: { kind: 'latest' } })
      t.match(again.run.failure, {
        code: 'conflict',
        message: /may have been written to/,
        hint: /nothing of it is removed/,
      })
      t.equal(await rowsOf(sourceOf(run)).catch((error: Error) => error.message), 'relation "t" does not exist')
      t.same(await askServer(sourceOf(run), 'select count(*)::int as rows from later', 'app'), [{ rows: 1 }])
    })

    t.test('by its own command, after --no-start', async (t) => {
      const { run, to } = await ground.restore(t, { target: { kind: 'name', name: 'point' }, start: false })
      t.match(run, { state: 'succeeded' })
      const start = run.items[0]?.restored?.start ?? ''
      t.notOk((await readdir(to)).includes('postmaster.pid'))
      t.ok((await readdir(to)).includes('recovery.signal'))
      t.match(start, /pg_ctl/)
    })

    t.test('where it cannot be', async (t) => {
      const taken = await openDirectory(t)
      await writeFile(join(taken, 'file'), '')
      const refused = [
        [{ to: taken }, 'conflict', /is not empty/],
        [{ to: cluster.server.dataDirectory }, 'usage-invalid', /is the data directory of the server/],
        [{ to: join(cluster.server.dataDirectory, 'below') }, 'usage-invalid', /lies in the data directory/],
        [{ to: join(archive, 'below') }, 'usage-invalid', /lies in the archive/],
        [{ to: join(sidecar.directory, 'repository', 'below') }, 'usage-invalid', /lies in the repository/],
        [{ to: '/nowhere/at/all' }, 'usage-invalid', /does not exist/],
        [{ target: { kind: 'time', at: new Date(Date.now() + 3600_000) } }, 'not-recoverable', /future/],
        [{ target: { kind: 'time', at: moments.first } }, 'not-recoverable', /no backup is as old/],
        ...(process.getuid?.() === 0 ? ([[{ osUser: 'root' }, 'usage-invalid', /does not run as root/]] as const) : []),
        [{ timeline: 7 }, 'not-recoverable', /timeline 7/],
        [{ backup: '20200101T000000Z-full-000000' }, 'not-found', /no physical backup/],
      ] as const
      for (const [wish, code, message] of refused) {
        const { run, to } = await ground.restore(t, wish)
        t.match(run, { state: 'failed', failure: { code, message } }, JSON.stringify(code))
        if (!('to' in wish)) t.equal(await lstat(to).catch(() => null), null, 'nothing was made')
      }
    })
  })
