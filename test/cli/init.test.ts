import { chmod, mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { commands } from '../../src/cli/commands.ts'
import { runInit } from '../../src/cli/init.ts'
import { systemClock } from '../../src/clock.ts'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { cli } from '../support/cli.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** `lifeboat init`, which looks around below a root; with an answer it is at a terminal. */
async function init(root: string, argv: readonly string[], { answer, env }: { answer?: string; env?: object } = {}) {
  const terminal = answer === undefined ? {} : { isTTY: true }
  const out = Object.assign(new PassThrough(), terminal)
  const input = Object.assign(new PassThrough(), terminal)
  input.end(answer)
  const code = await runInit(
    argv,
    {
      out,
      input,
      err: out,
      env: { ...env },
      user: 'nobody',
      signal: new AbortController().signal,
      clock: systemClock,
      version: { version: '1.2.3', revision: 'abc' },
      makeLog: () => {
        throw new Error('nothing is logged')
      },
    },
    { root, localPort: 1 },
  )
  return { code, out: String(out.read() ?? '') }
}

t.test('it shows, asks, and never overwrites', async (t) => {
  const root = await scratchDirectory(t)
  const file = join(root, 'etc', 'lifeboat.yaml')
  const shown = await init(root, ['--output', file])
  t.match(shown, { code: 0, out: /\ncluster: main\n[\s\S]*nothing was written; --write writes it to / })
  for (const answer of ['', 'n\n', 'maybe\n'])
    t.match((await init(root, ['-o', file], { answer })).out, 'nothing was written')
  await t.rejects(stat(file))
  const written = await init(root, [], { answer: 'y\n', env: { LIFEBOAT_CONFIG: file } })
  t.match(written.out, `written to ${file}`)
  const text = await readFile(file, 'utf8')
  t.ok(shown.out.includes(text), 'what was shown is what is written')
  t.equal((await stat(file)).mode & 0o777, 0o644)

  await writeFile(file, 'mine')
  t.match((await init(root, ['-o', file], { answer: 'y\n' })).out, 'is there already, and is not overwritten')
  await t.rejects(init(root, ['-o', file, '--write']), { code: 'usage-invalid', message: /is there already/ })
  t.equal(await readFile(file, 'utf8'), 'mine')
  const link = join(root, 'link.yaml')
  await symlink(join(root, 'nowhere'), link)
  await t.rejects(init(root, ['-o', link, '--write']), { code: 'usage-invalid' })
  t.match(await cli(['init', '--write', '--output', file, '--json']), { code: 2, err: /is there already/ })
  await t.rejects(init(root, ['-o', join(file, 'below'), '--write']), {
    code: 'usage-invalid',
    message: /cannot be written/,
  })

  const json = JSON.parse((await init(root, ['--json', '-o', join(root, 'json.yaml')])).out) as object
  t.match(json, { config: text, written: false, file: join(root, 'json.yaml'), findings: [{ area: 'server' }] })
  t.same(
    (await readdir(root)).filter((name) => name.includes('tmp') || name === 'json.yaml'),
    [],
    'nothing else is left',
  )
})

t.test('a configuration that names a secret is for its owner alone', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  await cluster.sql(`create role keeper login password 'geheim'`)
  const root = await scratchDirectory(t)
  const file = join(root, 'lifeboat.yaml')
  const { port } = cluster.as('keeper', '')
  const dsn = `postgresql://keeper@127.0.0.1:${port}/postgres`
  const { out } = await init(root, ['--write', '-o', file, '--dsn', dsn], { env: { PGPASSWORD: 'geheim' } })
  t.notMatch(out, 'geheim')
  t.notMatch(await readFile(file, 'utf8'), 'geheim')
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.match(out, 'only nobody can read it: if lifeboat runs as another OS user, give it to that one')
  t.match(await readFile(file, 'utf8'), /^objectives:\n[\s\S]*^ {2}rpo: 26h$/m, 'daily dumps alone hold it')
})

t.test('from a cron script to a watched directory', { timeout: 90_000 }, async (t) => {
  const root = await scratchDirectory(t)
  const dumps = join(root, 'dumps')
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'spavix', scale: 0.02 })
  await mkdir(dumps)
  await mkdir(join(root, 'etc/cron.d'), { recursive: true })
  const { host, user, port } = cluster.source
  const script = join(root, 'backup.sh')
  const program = programPath(cluster.installation, 'pg_dump')
  await writeFile(
    script,
    `#!/bin/sh\nDIR=${dumps}\n${program} -h ${host} -p ${port} -U ${user} spavix | gzip > $DIR/spavix_$1.sql.gz\n`,
  )
  await chmod(script, 0o755)
  await writeFile(join(root, 'etc/cron.d/backup'), `0 2 * * * root ${script} $(date +\\%Y\\%m\\%d)\n`)
  for (const days of [3, 2, 1]) {
    const at = new Date(systemClock.now().getTime() - days * 86_400_000 + 3_600_000)
    const stamp = at.toISOString().slice(0, 10).replaceAll('-', '')
    await runProgram({ program: script, args: [stamp] })
    await utimes(join(dumps, `spavix_${stamp}.sql.gz`), at, at)
  }
  const file = join(root, 'lifeboat.yaml')
  const { code, out } = await init(root, ['--write', '--output', file])
  t.equal(code, 0)
  t.match(out, `pg_dump of spavix into ${dumps}`)
  t.match(out, '{database}_{timestamp}{ext}')
  const env = { LIFEBOAT_STATE_DIR: join(root, 'state') }
  const check = await cli(['check', '--config', file], { env })
  t.match(check, { code: 0, out: /ok +watch +dumps: 3 files/ })
  t.match(
    (await cli(['list', '--config', file], { env })).out,
    /(?:external-.* spavix .*spavix_\d{8}\.sql\.gz[\s\S]*){3}/,
  )
})

t.test('it is a command', async (t) => {
  t.ok(commands.some(({ name }) => name === 'init'))
  t.match(await cli(['init', '--nope']), { code: 2, err: /unknown option/ })
  t.match(await cli(['init', '--dsn', 'geheim']), { code: 2, err: /^lifeboat: --dsn is no connection string\n/ })
})
