import { createHash } from 'node:crypto'
import { rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createApp } from '../src/app.ts'
import { systemClock } from '../src/clock.ts'
import { loadConfig } from '../src/config/load.ts'
import type { Run } from '../src/runner/job.ts'
import { cli } from './support/cli.ts'
import { parseExposition, promtoolComplaints } from './support/exposition.ts'
import { keptLog } from './support/log.ts'
import { freePort } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'

const token = 'lb_test'
const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
const old = new Date('2026-01-01T02:10:00Z')
const dump = (body: string) =>
  `--\n-- PostgreSQL database dump\n--\n\n${body}\n--\n-- PostgreSQL database dump complete\n--\n`
const hostile = 'it\'s "<img src=x onerror=alert(1)>"\n\u001b[31m_backup_20260101_020000.sql'

t.test('a directory is enough', { timeout: 90_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const state = await scratchDirectory(t)
  const file = join(state, 'lifeboat.yaml')
  const put = async (name: string, contents: string) => {
    await writeFile(join(directory, name), contents)
    await utimes(join(directory, name), old, old)
  }
  await put('app_backup_20260101_020000.sql', dump('create table users (id int); insert into users values (1);'))
  await put('crm_backup_20260101_020000.sql.gz', 'pg_dump: error: connection refused')
  await put(hostile, dump(''))
  const text = JSON.stringify({
    cluster: 'spavix',
    listen: `127.0.0.1:${await freePort()}`,
    stateDir: join(state, 'state'),
    watch: [{ directory, name: 'nightly' }],
    verification: { assertions: [{ database: 'app', sql: 'select count(*) = 1 from users', expect: true }] },
    auth: { tokens: [{ name: 'test', role: 'admin', sha256: createHash('sha256').update(token).digest('hex') }] },
  })
  await writeFile(file, text)

  const before = await cli(['list', '--config', file])
  t.equal(before.code, 0)
  t.match(before.out, /nightly +external-[0-9a-f]{16} +app .* app_backup_20260101_020000\.sql +pending, never/)
  t.notMatch(before.out, '\u001b', 'names are made harmless')
  const check = await cli(['check', '--config', file])
  t.match(check.out, /ok +watch +nightly: 3 files in /)
  t.match(
    check.out,
    /warning {2}watch +nightly: "app": "app_backup.*" \(pending\) is \d+ h old, .*watch\.maxAge \(26 h\)\n +HINT: /,
  )
  t.match(check.out, /ok +schedule +no repository is configured: lifeboat only watches/)
  t.notMatch(check.out, /^error/m)

  const { log } = keptLog()
  const app = await createApp(await loadConfig({ text, env: {} }), {
    clock: systemClock,
    log,
    version: { version: '0', revision: 'x' },
  })
  t.teardown(() => app.stop())
  await app.start()
  const samples = async () => parseExposition(await (await fetch(`${app.url}/metrics`)).text())
  const until = async (question: (found: Awaited<ReturnType<typeof samples>>) => boolean) => {
    for (let look = 0; look < 300; look += 1) {
      const found = await samples()
      if (question(found)) return found
      await delay(50)
    }
    throw new Error('never seen')
  }
  const has = (found: Awaited<ReturnType<typeof samples>>, name: string, labels: Readonly<Record<string, string>>) =>
    found.find((one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value))
      ?.value

  const found = await until(
    (all) =>
      has(all, 'lifeboat_external_files', { state: 'pending' }) === 0 &&
      has(all, 'lifeboat_external_files', { state: 'sound' }) === 2,
  )
  const labels = { repository: 'nightly', backup_type: 'external', database: 'app' }
  t.equal(has(found, 'lifeboat_backup_last_success_timestamp_seconds', labels), old.getTime() / 1000)
  t.equal(has(found, 'lifeboat_policy_backup_max_age_seconds', { backup_type: 'external', database: 'crm' }), 26 * 3600)
  t.equal(
    has(found, 'lifeboat_backup_last_success_timestamp_seconds', { ...labels, database: 'crm' }),
    undefined,
    'a broken one is no success',
  )
  t.equal(has(found, 'lifeboat_external_files', { state: 'wrong-format' }), 1)
  t.equal(has(found, 'lifeboat_collector_success', { collector: 'watch:nightly' }), 1)
  t.equal(has(found, 'lifeboat_up', {}), undefined, 'no server is looked at')
  t.equal(has(found, 'lifeboat_job_running', { job: 'dump' }), undefined)
  t.equal(
    found.filter(({ labels: { backup_type } }) => backup_type !== undefined && backup_type !== 'external').length,
    0,
  )
  t.equal(promtoolComplaints(await (await fetch(`${app.url}/metrics`)).text()), '')

  const list = (await (await fetch(`${app.url}/api/backups`, { headers })).json()) as {
    backups: { id: string; database: string; file: { name: string }; type: string; durationSeconds: number | null }[]
    unusable: { state: string; failure: { message: string } }[]
  }
  t.match(list.unusable, [{ state: 'invalid', failure: { message: /crm_backup.*wrong-format/ } }])
  t.same(list.backups.map(({ file }) => file.name).sort(), ['app_backup_20260101_020000.sql', hostile].sort())
  const app1 = list.backups.find(({ database }) => database === 'app')
  t.match(app1, {
    type: 'external',
    durationSeconds: 600,
    file: { state: 'sound', format: 'plain', compression: 'none' },
  })
  const page = await (await fetch(`${app.url}/`)).text()
  t.notMatch(page, '<img src=x')
  t.notMatch(page, '\u001b')
  t.match(page, /nightly/)
  t.match(page, /1 of 3 databases cannot be recovered/, 'the broken one is all that there is of its database')

  // The sidecar has read what a command, which looks for a moment only, would take for a file that grows.
  await utimes(join(directory, 'crm_backup_20260101_020000.sql.gz'), new Date(), new Date())
  await until((all) => has(all, 'lifeboat_external_files', { state: 'wrong-format' }) === 0)
  await writeFile(join(directory, 'crm.tmp'), 'pg_dump: error: connection refused')
  await rename(join(directory, 'crm.tmp'), join(directory, 'crm_backup_20260101_020000.sql.gz'))
  await until((all) => has(all, 'lifeboat_external_files', { state: 'wrong-format' }) === 1)
  t.match(
    (await cli(['list', '--config', file])).out,
    /crm {9,}\d+ B .*crm_backup_20260101_020000\.sql\.gz +wrong-format/,
  )
  t.match(
    (await cli(['check', '--config', file])).out,
    /error +watch +nightly: "crm": the newest file "crm_backup.*" is wrong-format: .*\n +HINT: look at what writes it/,
  )

  const refused = await fetch(`${app.url}/api/admin/backup`, { method: 'POST', headers, body: '{}' })
  t.equal(refused.status, 400, 'there is nothing to fill')
  const started = (await (
    await fetch(`${app.url}/api/admin/verify`, { method: 'POST', headers, body: JSON.stringify({ backup: app1?.id }) })
  ).json()) as Run
  const ended = async (): Promise<Run> => {
    const run = (await (await fetch(`${app.url}/api/runs/${started.id}`, { headers })).json()) as Run
    return run.finishedAt === null ? delay(100).then(ended) : run
  }
  t.match(await ended(), {
    state: 'succeeded',
    items: [{ backupType: 'external', verdict: 'pass', repository: 'nightly' }],
  })
  const proven = await until((all) => has(all, 'lifeboat_backup_proven_timestamp_seconds', labels) !== undefined)
  t.equal(has(proven, 'lifeboat_verification_last_result', { ...labels, level: 'data', result: 'pass' }), 1)
  t.match(await (await fetch(`${app.url}/api/backups/${app1?.id}`, { headers })).json(), {
    copies: [{ repository: 'nightly', manifest: null, proofs: [{ level: 'data' }] }],
  })
  t.match((await cli(['list', '--config', file])).out, /app_backup_20260101_020000\.sql +pass, restored/)

  await writeFile(join(directory, 'app.tmp'), dump('create table users (id int);'))
  await rename(join(directory, 'app.tmp'), join(directory, 'app_backup_20260102_020000.sql'))
  await until((all) => has(all, 'lifeboat_external_files', { state: 'sound' }) === 3)
  await writeFile(join(directory, 'app.tmp'), dump('-- another'))
  await rename(join(directory, 'app.tmp'), join(directory, 'app_backup_20260101_020000.sql'))
  const replaced = await until((all) => has(all, 'lifeboat_backup_proven_timestamp_seconds', labels) === undefined)
  t.equal(
    has(replaced, 'lifeboat_external_files', { state: 'truncated' }),
    0,
    'a proof speaks of the bytes that were there',
  )
})
