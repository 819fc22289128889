import { access, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { openHistory } from '../../src/runner/history.ts'
import { cli } from '../support/cli.ts'
import { keptLog } from '../support/log.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type SidecarOptions, sidecarYaml } from '../support/sidecar.ts'
import { flipBit } from '../support/tamper.ts'

const evil = 'evil\u001b[31m\nname\u202e'

t.test('commands on a real cluster', { timeout: 150_000 }, async (t) => {
  const cluster = await startCluster(t)
  const directory = await scratchDirectory(t)
  let files = 0
  const configured = async (options: SidecarOptions = {}) => {
    files += 1
    const file = join(directory, `${files}.yaml`)
    await writeFile(file, sidecarYaml(cluster, directory, options), { mode: 0o600 })
    return (argv: readonly string[], more: Parameters<typeof cli>[1] = {}) =>
      cli(argv, { env: { LIFEBOAT_CONFIG: file }, ...more })
  }
  await cluster.createDatabase(evil, 'create table t as select 1 as i')
  const lifeboat = await configured({ databases: [evil, 'postgres'] })
  let id = ''
  let folder = ''

  const runsOf = () => {
    const history = openHistory({
      file: join(directory, 'state', 'lifeboat.db'),
      clock: systemClock,
      log: keptLog().log,
    })
    const { length } = history.list({ limit: 500 })
    history.close()
    return length
  }

  t.test('list without backups', async (t) => {
    t.same(await lifeboat(['list']), { code: 0, out: 'no backups yet\n', err: '' })
    t.same(JSON.parse((await lifeboat(['list', '--json'])).out), [])
    const wrong = await lifeboat(['list', '-r', 'no such'])
    t.equal(wrong.code, 2)
    t.match(wrong.err, /there is no repository "no such"\nHINT: configured are: local/)
    const nothing = await lifeboat(['verify'])
    t.equal(nothing.code, 2)
    t.match(nothing.err, /no backup to verify[\s\S]*HINT: take one first/)
  })

  t.test('backup', async (t) => {
    const runs = runsOf()
    const text = await lifeboat(['backup', '-d', evil])
    t.equal(text.code, 0, text.err)
    t.equal(text.err, '', 'no progress but on a terminal')
    t.match(
      text.out,
      /^"evil\\u001b\[31m\\nname\\u202e" {2}\d{8}T\d{6}Z-dump-[0-9a-f]{6} {2}[\d.]+ KiB in local, [\d.]+ s\n$/,
    )
    const terminal = await lifeboat(['backup', '-d', evil], { terminal: true })
    t.equal(terminal.code, 0)
    t.ok(terminal.err.includes('\r\u001b[K'))
    t.notOk(`${terminal.out}${terminal.err}`.includes('[31m\n'))
    const json = await lifeboat(['backup', '--database=postgres', '--json'])
    t.equal(json.code, 0)
    t.equal(json.err, '')
    const run = JSON.parse(json.out) as { items: { backupId: string }[] }
    t.match(run, {
      job: 'dump',
      state: 'succeeded',
      trigger: 'cli',
      requestedBy: 'tester',
      items: [{ database: 'postgres' }],
    })
    id = run.items[0]?.backupId ?? ''
    folder = join(directory, 'repository', 'test', 'backups', id)
    const missing = await lifeboat(['backup', '-d', 'no such'])
    t.same([missing.code, missing.out], [1, ''])
    t.match(missing.err, /"no such" does not exist\nHINT: /)
    const failed = JSON.parse((await lifeboat(['backup', '-d', 'no such', '--json'])).out) as unknown
    t.match(failed, { error: { code: 'database-missing' } })
    t.equal(runsOf(), runs + 3, 'a name that is mistyped is no run')
  })

  t.test('list', async (t) => {
    const { code, out, err } = await lifeboat(['list'])
    t.same([code, err], [0, ''])
    const lines = out.trimEnd().split('\n')
    t.equal(lines.length, 4)
    t.match(lines[0], /^REPOSITORY +BACKUP +DATABASE +RESTORES TO +SIZE +STAYS +VERIFIED$/)
    t.match(
      out,
      new RegExp(
        `^local +${id} +postgres +\\d{4}-\\d{2}-\\d{2} \\d{2}:\\d{2}:\\d{2}Z +[\\d.]+ KiB +last-usable +never$`,
        'm',
      ),
    )
    t.notOk(out.includes('\u001b') || out.includes('\u202e'))
    t.equal((await lifeboat(['list', '-d', evil])).out.trimEnd().split('\n').length, 3)
    const found = JSON.parse((await lifeboat(['list', '-d', 'postgres', '--json'])).out) as unknown
    t.match(found, [{ repository: 'local', id, database: 'postgres', proofs: [] }])
  })

  t.test('verify', async (t) => {
    const proven = await lifeboat(['verify', id, '--json'])
    t.equal(proven.code, 0, proven.err)
    t.equal(proven.err, '')
    t.match(JSON.parse(proven.out), {
      state: 'succeeded',
      proofs: [{ backupId: id, levels: { data: { verdict: 'pass' } } }],
    })
    t.match((await lifeboat(['list', '-d', 'postgres'])).out, /pass, restored \d{4}-/)
    const text = await lifeboat(['verify', '-d', evil, '-l', 'artifact'])
    t.equal(text.code, 0)
    t.match(text.out, /"evil\\u001b\[31m\\nname\\u202e"\) in local: pass\n {2}pass {9}artifact manifest\n/)
    const runs = runsOf()
    t.equal((await lifeboat(['verify', '20200101T000000Z-dump-abcdef'])).code, 2)
    t.match((await lifeboat(['verify', 'x'])).err, /"x" is not a backup id/)
    t.match(
      (await lifeboat(['verify', '-d', 'no such'])).err,
      /no backup of the database "no such"\nHINT: `lifeboat list`/,
    )
    t.equal((await lifeboat(['verify', '-r', 'no such'])).code, 2)
    t.equal(runsOf(), runs + 1, 'only the last, which names nothing, came to a run')
  })

  t.test('restore', async (t) => {
    const { code, out, err } = await lifeboat(['restore', id, '--to', 'copy'])
    t.same([code, err], [0, ''])
    t.match(out, new RegExp(`^restored ${id} of postgres: the database is "copy"\n$`))
    const runs = runsOf()
    const taken = await lifeboat(['restore', id, '--to', 'copy', '--json'])
    t.equal(taken.code, 3)
    t.match(JSON.parse(taken.out), { error: { code: 'conflict', hint: /--replace/ } })
    t.match((await lifeboat(['restore', '-d', 'postgres'])).err, /"postgres" exists already/)
    t.match((await lifeboat(['restore', '-d', 'no such'])).err, /no backup of the database "no such"/)
    t.equal((await lifeboat(['restore', '20200101T000000Z-dump-abcdef'])).code, 2)
    t.match((await lifeboat(['restore', id, '--to', 'none', '--replace'])).err, /no database "none" to replace/)
    t.equal(runsOf(), runs, 'what is mistyped is no run')
    await cluster.sql('drop database copy')
    await cluster.sql('create role weak login')
    const weak = await lifeboat(['restore', id, '--to', 'copy', '--user', 'weak'])
    t.equal(weak.code, 1)
    t.match(weak.err, /permission denied[^\n]*\nHINT: for a restore, name a superuser with --user and --password-file/)
    t.match((await lifeboat(['restore', id, '--port', '0'])).err, /--port cannot be "0"/)
    t.equal((await lifeboat(['restore', id, '--password-file', '/nonexistent'])).code, 2)
    t.equal((await lifeboat(['restore', id, '--to', 'x', '--host', '/nonexistent'])).code, 1)
  })

  t.test('a run that has to wait says for whom', async (t) => {
    const history = openHistory({
      file: join(directory, 'state', 'lifeboat.db'),
      clock: systemClock,
      log: keptLog().log,
    })
    const request = { job: 'dump', lane: 'backup', params: {}, trigger: 'api', requestedBy: null } as const
    const other = history.insert(request)
    t.equal(history.claim(other.id), 'claimed')
    let said = ''
    const told = Promise.withResolvers<void>()
    const onErr = (text: string) => {
      said += text
      told.resolve()
    }
    const waiting = lifeboat(['backup', '-d', 'postgres'], { onErr })
    await told.promise
    t.equal(said, `waiting for run ${other.id} in lane backup\n`)
    history.finish(other.id, 'running', { state: 'succeeded', failure: null, durationMs: 1 })
    history.close()
    t.equal((await waiting).code, 0)
  })

  t.test('a repository that is not mounted', async (t) => {
    const path = join(directory, 'repository')
    await rename(path, `${path}.disk`)
    const list = await lifeboat(['list'])
    t.same([list.code, list.out], [1, ''])
    t.match(
      list.err,
      /local: this is not the repository that it was .*: is it mounted\?\nHINT: mount it; .*lifeboat adopt local/,
    )
    t.match(JSON.parse((await lifeboat(['list', '--json'])).out), [
      { repository: 'local', failure: { code: 'storage-failed' } },
    ])
    const check = await lifeboat(['check'])
    t.equal(check.code, 1)
    t.match(check.out, /^error {4}repository {3}local: this is not the repository/m)
    const backup = await lifeboat(['backup', '-d', 'postgres'])
    t.equal(backup.code, 1)
    t.match(backup.err, /is it mounted/)
    await t.rejects(access(path), { code: 'ENOENT' }, 'nothing is made in its place')

    t.equal((await lifeboat(['adopt'])).code, 2)
    t.equal((await lifeboat(['adopt', 'no such'])).code, 2)
    t.equal((await lifeboat(['adopt', 'local'])).code, 1, 'what is not there cannot be adopted')
    await mkdir(path)
    t.equal((await lifeboat(['backup', '-d', 'postgres'])).code, 1, 'an empty mount point')
    t.same(await readdir(path), [])
    const adopted = await lifeboat(['adopt', 'local'])
    t.equal(adopted.code, 0, adopted.err)
    t.match(adopted.out, `local: what is in ${path} is this repository from now on\n`)
    t.equal((await lifeboat(['backup', '-d', 'postgres'])).code, 0)
    await rm(path, { recursive: true })
    await rename(`${path}.disk`, path)
    t.match((await lifeboat(['list'])).err, /the marker of another one/)
    t.equal((await lifeboat(['adopt', 'local'])).code, 0)
    t.equal((await lifeboat(['list'])).code, 0)
  })

  t.test('a failed and an inconclusive verification, and an interrupt', async (t) => {
    const pgless = await configured({ yaml: { verification: { osUser: 'nobody-of-this-name' } } })
    const unknown = await pgless(['verify', id])
    t.equal(unknown.code, 5, unknown.err)
    t.match(unknown.err, /inconclusive.*nobody-of-this-name/)
    await flipBit(join(folder, 'dump.tar'))
    const failed = await lifeboat(['verify', id])
    t.equal(failed.code, 1)
    t.match(failed.out, /: fail\n[\s\S]*fail {9}artifact checksum dump\.tar: /)
    t.match(failed.err, / of "postgres" in local: .*checksum-mismatch[\s\S]*HINT: do not rely on this copy/)
    t.match((await lifeboat(['list'])).out, /fail \d{4}-.*restored \d{4}-/)
    await rm(folder, { recursive: true })
    const stopped = AbortSignal.abort(new LifeboatError('cancelled', 'received SIGINT'))
    t.equal((await lifeboat(['backup'], { signal: stopped })).code, 130)
    t.equal((await lifeboat(['check'], { signal: stopped })).code, 130)
  })
})
