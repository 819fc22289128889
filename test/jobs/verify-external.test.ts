import { copyFile, mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createCore } from '../../src/core.ts'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import type { Proof } from '../../src/domain/proof.ts'
import type { Run } from '../../src/runner/job.ts'
import { makeForeignDumps } from '../support/dumps.ts'
import { keptLog } from '../support/log.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

const old = new Date('2026-01-01T02:10:00Z')
const title = '--\n-- PostgreSQL database dump\n--\n\n'
const closing = '\n--\n-- PostgreSQL database dump complete\n--\n'

interface Watching {
  readonly verify: (params?: { backup?: string; level?: string; database?: string }) => Promise<Run>
  readonly proofOf: (run: Run) => Proof
  readonly state: string
  readonly lines: ReturnType<typeof keptLog>['lines']
}

/** A watch-only Lifeboat over a directory. */
async function watchOnly(t: Test, directory: string, extra = ''): Promise<Watching> {
  const state = await scratchDirectory(t)
  const config = await loadConfig({
    text: `cluster: main\nstateDir: ${state}\nwatch: [{ directory: ${directory}, quietTime: 1s }]\n${extra}`,
    env: {},
  })
  const { log, lines } = keptLog()
  const core = await createCore(config, { clock: systemClock, log, version: 'test' })
  t.teardown(() => core.close())
  return {
    state,
    lines,
    verify: ({ backup = null, level = 'data', database = null }: Record<string, string | null> = {}) => {
      const params = { backup, repository: null, database, level, rehash: false }
      return core.runner.wait(core.runner.trigger({ job: 'verify', params, trigger: 'cli', requestedBy: null }).id)
    },
    proofOf: (run) =>
      JSON.parse(core.history.external.externalProofs().get(run.items[0]?.backupId ?? '')?.[0] ?? '{}') as Proof,
  }
}

async function put(directory: string, name: string, contents: string): Promise<void> {
  await writeFile(join(directory, name), contents)
  await utimes(join(directory, name), old, old)
}

for (const major of [15, 17] as const) {
  t.test(`dumps of every format are restored, PostgreSQL ${major}`, { timeout: 150_000 }, async (t) => {
    const cluster = await startCluster(t, { major })
    await createSampleDatabase(cluster.source, { name: 'app', scale: 0.05 })
    const made = await scratchDirectory(t)
    const dumps = await makeForeignDumps(cluster, 'app', made)
    const directory = await scratchDirectory(t)
    const { binDir } = { binDir: cluster.installation.directory }
    const { verify, proofOf, state } = await watchOnly(
      t,
      directory,
      `postgres: { binDir: ${binDir} }
verification: { assertions: [{ name: users, database: app, sql: "select count(*) > 0 from users", expect: true }] }`,
    )
    for (const [kind, path] of Object.entries(dumps)) {
      for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true })
      const target = join(directory, 'app_backup_20260101_020000')
      const isDirectory = (await stat(path)).isDirectory()
      if (isDirectory) {
        await mkdir(target)
        for (const name of await readdir(path)) {
          await copyFile(join(path, name), join(target, name))
          await utimes(join(target, name), old, old) // what is in it counts
        }
      } else await copyFile(path, target)
      await utimes(target, old, old)
      const run = await verify()
      const proof = proofOf(run)
      t.match(run, { state: 'succeeded', items: [{ backupType: 'external', database: 'app', verdict: 'pass' }] }, kind)
      t.match(proof, {
        level: 'data',
        levels: { artifact: { verdict: 'pass' }, restore: { verdict: 'pass' }, data: { verdict: 'pass' } },
      })
      const restore = proof.levels.restore?.checks.find(({ name }) => name === 'restore')?.detail ?? ''
      t.match(restore, kind.startsWith('everything') ? /^\d+ tables$/ : /^\d+ tables/, kind)
      t.notMatch(restore, /^0 tables/, kind)
      if (kind.startsWith('plain')) t.match(restore, /does not carry: studio_app, studio_readers/, 'roles are named')
      t.ok(
        proof.levels.data?.checks.some(({ name, verdict }) => name === 'assertion users' && verdict === 'pass'),
        kind,
      )
    }
    t.same(await readdir(join(state, 'work')), [], 'nothing is left')
  })
}

t.test('what cannot be restored', { timeout: 120_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const { verify, proofOf } = await watchOnly(t, directory)
  const one = async (contents: string, level = 'data') => {
    await put(directory, 'app_backup_20260101_020000.sql', contents)
    const run = await verify({ level })
    return { run, proof: proofOf(run) }
  }

  t.match((await one(title)).run, { state: 'failed', failure: { code: 'verification-failed', message: /truncated/ } })
  const broken = await one(`${title}create table a (i int);\ninsert into a values ('x');\n${closing}`)
  t.match(broken.proof.levels.restore, {
    verdict: 'fail',
    cause: 'restore-failed',
    checks: [{ detail: /invalid input syntax/ }],
  })
  const extension = await one(`${title}create extension no_such_thing;\ncreate table a (x no_such_type);\n${closing}`)
  t.match(
    extension.proof.levels.restore,
    { verdict: 'inconclusive', cause: 'extension-missing' },
    'what is missing explains the rest',
  )
  t.match(extension.run.failure, { code: 'verification-inconclusive' })
  const empty = await one(`${title}${closing}`)
  t.match(empty.run, { state: 'succeeded' }, 'an empty database is legal')
  t.match((await one(`${title}${closing}`, 'artifact')).proof, { level: 'artifact', levels: { restore: undefined } })

  await rm(join(directory, 'app_backup_20260101_020000.sql'))
  t.match(await verify(), { state: 'failed', failure: { code: 'not-found', message: /no finished file/ } })
  t.match(await verify({ backup: 'external-0123456789abcdef' }), { state: 'failed', failure: { code: 'not-found' } })
})

t.test('a dump that means harm', { timeout: 120_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const { verify, proofOf, state } = await watchOnly(t, directory)
  const mark = join(tmpdir(), `lifeboat-harm-${process.pid}`)
  t.teardown(() => rm(mark, { force: true }))
  const secret = join(state, 'lifeboat.db')
  const attempts = [
    `\\! touch ${mark}`,
    `\\o |touch ${mark}`,
    `select 1 \\g |touch ${mark}`,
    `\\copy (select 1) to program 'touch ${mark}'`,
    `\\i ${secret}`,
    '\\connect "host=127.0.0.1 port=1"',
  ]
  for (const attempt of attempts) {
    await put(directory, 'app_backup_20260101_020000.sql', `${title}create table a (i int);\n${attempt}\n${closing}`)
    const run = await verify()
    t.match(run, { state: 'failed' }, attempt)
    t.match(proofOf(run).levels.restore?.checks[0]?.detail, /backslash commands are restricted/, attempt)
    await t.rejects(stat(mark), { code: 'ENOENT' }, attempt)
  }
  // A dump of a whole cluster has to connect, so psql is not told to refuse: it is only kept apart.
  const whole = `--\n-- PostgreSQL database cluster dump\n--\n\n\\! cat ${secret} > ${mark}; ls / > ${mark}\ncopy (select 1) to program 'cat ${secret} > ${mark}';\n--\n-- PostgreSQL database cluster dump complete\n--\n`
  await put(directory, 'app_backup_20260101_020000.sql', whole)
  await verify()
  const left = await readFile(mark, 'utf8').catch(() => '')
  t.notMatch(left, /SQLite format/, 'the state is out of reach')
  const other = await readFile(join(directory, 'app_backup_20260101_020000.sql'), 'utf8')
  t.equal(other, whole, 'the file is as it was')

  await put(
    directory,
    'app_backup_20260101_020000.sql',
    `${title}copy (select 1) to program 'touch ${mark}-server';\n${closing}`,
  )
  await verify()
  const made = await stat(`${mark}-server`).catch(() => null)
  if (made !== null) t.not(made.uid, process.getuid?.(), 'by the user of the scratch server, who owns nothing')
  await rm(`${mark}-server`, { force: true })

  await put(directory, 'app_backup_20260101_020000.sql', `${title}select pg_sleep(3600);\n${closing}`)
  const config = await watchOnly(t, directory, 'verification: { timeout: 1m }')
  t.ok(config)
})

t.test('a file that is cut off while nobody looks', async (t) => {
  const directory = await scratchDirectory(t)
  const { verify } = await watchOnly(t, directory)
  const path = join(directory, 'app_backup_20260101_020000.sql')
  await put(directory, 'app_backup_20260101_020000.sql', `${title}create table a (i int);\n${closing}`)
  t.match(await verify({ level: 'artifact' }), { state: 'succeeded' })
  await truncate(path, 60)
  await utimes(path, old, old)
  t.match(await verify({ level: 'artifact' }), { state: 'failed', items: [{ verdict: 'fail' }] })
})
