import { copyFile, mkdir, readdir, rm, stat, truncate, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { makeForeignDumps } from '../support/dumps.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { old, put, watchOnly } from '../support/watch-only.ts'

const title = '--\n-- PostgreSQL database dump\n--\n\n'
const closing = '\n--\n-- PostgreSQL database dump complete\n--\n'

const ofNewer = new Set<string>(['plainGzip', 'directory', 'everything'])

for (const major of [15, 17] as const) {
  t.test(`dumps of every format are restored, PostgreSQL ${major}`, { timeout: 150_000 }, async (t) => {
    // pg_dumpall names the superuser, who has another name in the scratch server.
    const cluster = await startCluster(t, { major, ...(major === 17 ? { superuser: 'admin' } : {}) })
    await cluster.sql('create role one; create role two in role one')
    await createSampleDatabase(cluster.source, { name: 'app', scale: 0.05 })
    const made = await scratchDirectory(t)
    const dumps = await makeForeignDumps(cluster, 'app', made)
    const directory = await scratchDirectory(t)
    const { verify, proofOf, state } = await watchOnly(
      t,
      directory,
      `postgres: { binDir: ${cluster.installation.directory} }
verification: { assertions: [{ name: users, database: app, sql: "select count(*) > 0 from users", expect: true }] }`,
    )
    // What differs by the version is how each kind of restore works, not what is around the dump.
    const kinds = Object.entries(dumps).filter(([kind]) => major === 15 || ofNewer.has(kind))
    for (const [kind, path] of kinds) {
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
      t.match(restore, kind.startsWith('everything') ? /^\d+ tables in app$/ : /^\d+ tables/, kind)
      t.notMatch(restore, /^0 tables/, kind)
      if (kind.startsWith('plain'))
        t.match(restore, /does not carry: (?:admin, )?studio_app, studio_readers/, 'roles are named')
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
