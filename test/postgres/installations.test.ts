import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { chooseCompression } from '../../src/postgres/dump.ts'
import { withCause } from '../../src/postgres/failures.ts'
import {
  chooseClient,
  chooseServer,
  findInstallations,
  type Installation,
  programPath,
} from '../../src/postgres/installations.ts'
import { installationOf } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

async function fake(directory: string, version: string, programs = ['pg_dump']): Promise<string> {
  await mkdir(directory, { recursive: true })
  for (const name of programs) {
    await writeFile(join(directory, name), `#!/bin/sh\nprintf '%s\\n' "${name} (PostgreSQL) ${version}"\n`, {
      mode: 0o755,
    })
  }
  return directory
}

const found = async (binDir: string | null, path: string, root: string) =>
  (await findInstallations(binDir, path)).filter(({ directory }) => directory.startsWith(root))

t.test('finding programs', async (t) => {
  const root = await scratchDirectory(t)
  const all = ['pg_dump', 'initdb', 'postgres']
  const own = await fake(join(root, 'pg/16/bin'), '16.4 (Debian 16.4-1.pgdg120+1)', all)
  const beside = await fake(join(root, 'pg/14/bin'), '14.2')
  await fake(join(root, 'pg/notes/bin'), '13.1')
  const beta = await fake(join(root, "it's beta"), '19beta1', all)

  t.same(await found(own, `${beta}:relative:${own}`, root), [
    { directory: own, major: 16, version: '16.4 (Debian 16.4-1.pgdg120+1)', server: true },
    { directory: beside, major: 14, version: '14.2', server: false },
    { directory: beta, major: 19, version: '19beta1', server: true },
  ])
  t.same(await found(null, '', root), [])
  t.same(await found(null, `${join(root, 'no')}::.:${root}`, root), [])
  for (const wrong of [join(root, 'nowhere'), root, join(root, 'pg/16')])
    await t.rejects(findInstallations(wrong, own), {
      code: 'program-missing',
      message: new RegExp(`^postgres\\.binDir ${wrong} holds no pg_dump`),
      hint: /\/usr\/lib\/postgresql/,
    })
  t.equal(programPath({ directory: own, major: 16, version: '', server: true }, 'psql'), join(own, 'psql'))

  await t.test('what cannot be used is passed over', async (t) => {
    const bad = join(root, 'bad')
    const script = async (name: string, text: string, mode = 0o755) => {
      await mkdir(join(bad, name), { recursive: true })
      await writeFile(join(bad, name, 'pg_dump'), text)
      await chmod(join(bad, name, 'pg_dump'), mode)
      return join(bad, name)
    }
    const path = [
      await script('fails', '#!/bin/sh\necho "pg_dump (PostgreSQL) 15.1"; exit 1\n'),
      await script('other', '#!/bin/sh\necho "mysqldump 8.0"\n'),
      await script('silent', '#!/bin/sh\n'),
      await script('binary', '\x7fELF\x02\x01\x01'),
      await script('plain', '#!/bin/sh\necho "pg_dump (PostgreSQL) 15.1"\n', 0o644),
      await script('interpreter', '#!/no/such/interpreter\n'),
      await script('loud', '#!/bin/sh\nhead -c 40000000 /dev/zero\n'),
    ]
    await mkdir(join(bad, 'directory/pg_dump'), { recursive: true })
    await mkdir(join(bad, 'dangling'))
    await symlink('/nowhere/pg_dump', join(bad, 'dangling/pg_dump'))
    await fake(join(bad, 'share'), '15.9').then((share) => writeFile(join(share, 'pg_wrapper'), '#!/bin/sh\n'))
    await writeFile(join(bad, 'pg_wrapper'), '#!/bin/sh\necho "pg_dump (PostgreSQL) 15.1"\n', { mode: 0o755 })
    await mkdir(join(bad, 'debian'))
    await symlink('../pg_wrapper', join(bad, 'debian/pg_dump'))
    path.push(join(bad, 'directory'), join(bad, 'dangling'), join(bad, 'debian'))
    t.same(await found(null, path.join(':'), root), [])
  })

  await t.test('one place under two names is one place', async (t) => {
    await symlink(own, join(root, 'link'))
    t.equal((await found(join(root, 'link'), own, root)).length, 1)
  })
})

t.test('choosing', async (t) => {
  const of = (major: number, server = true, directory = `/${major}`): Installation => ({
    directory,
    major,
    version: `${major}.1`,
    server,
  })
  const some = [of(17), of(15), of(16, false), of(15, true, '/other')]
  t.equal(chooseClient(some, 15).directory, '/15', 'the same major; the first of two')
  t.equal(chooseClient(some, 14).major, 15, 'else the lowest newer one')
  t.equal(chooseClient(some, 16).major, 16, 'a client needs no server programs')
  t.throws(() => chooseClient(some, 18), {
    code: 'client-too-old',
    message: /PostgreSQL 18.*17\.1/,
    hint: /postgresql-client-18/,
  })
  t.throws(() => chooseClient([], 18), { code: 'program-missing', hint: /postgres\.binDir/ })
  t.equal(chooseServer(some, 15).directory, '/15')
  t.throws(
    () => chooseServer(some, 16),
    { code: 'program-missing', hint: /install postgresql-16/ },
    'clients alone are no server',
  )
  t.throws(() => chooseServer(some, 14), { code: 'program-missing' }, 'never another major')
})

t.test('compression follows what the client was built with', async (t) => {
  const root = await scratchDirectory(t)
  const client = async (major: number, configure: string | null) => {
    const directory = await fake(join(root, `${major}${configure}`), `${major}.0`)
    if (configure !== null)
      await writeFile(join(directory, 'pg_config'), `#!/bin/sh\necho "${configure}"\n`, { mode: 0o755 })
    return { directory, major, version: `${major}.0`, server: false }
  }
  t.equal(await chooseCompression(await client(15, "'--with-zstd'")), '1')
  t.equal(await chooseCompression(await client(16, "'--with-zstd' '--with-lz4'")), 'zstd:3')
  t.equal(await chooseCompression(await client(17, "'--with-lz4'")), 'gzip:1')
  t.equal(await chooseCompression(await client(17, null)), 'gzip:1', 'pg_config is not always there')
  t.equal(await chooseCompression(await installationOf(15)), '1')
  t.match(await chooseCompression(await installationOf(17)), /^(zstd:3|gzip:1)$/)
})

t.test('the cause that a program names', async (t) => {
  const code = (stderr: string) =>
    (
      withCause(
        new LifeboatError('program-failed', 'pg_dump exited with status 1', { details: { stderr } }),
      ) as LifeboatError
    ).code
  const table: readonly [string, string][] = [
    ['pg_dump: error: could not write to file: No space left on device', 'disk-full'],
    ['ERROR:  could not extend file "base/5/1": wrote only 4096 of 8192 bytes', 'disk-full'],
    ['FATAL:  password authentication failed for user "x"', 'server-authentication'],
    ['fe_sendauth: no password supplied', 'server-authentication'],
    ['FATAL:  no pg_hba.conf entry for host "::1"', 'server-authentication'],
    ['connection to server failed: FATAL:  role "x\ny" does not exist', 'server-authentication'],
    ['pg_restore: error: could not execute query: ERROR:  role "x" does not exist', 'program-failed'],
    ['FATAL:  database "a\nb" does not exist', 'database-missing'],
    ['server closed the connection unexpectedly', 'server-unreachable'],
    ['connection to server at "h" (::1), port 1 failed: Connection refused', 'server-unreachable'],
    ['FATAL:  terminating connection due to administrator command', 'server-unreachable'],
    ['pg_dump: error: aborting because of server version mismatch', 'client-too-old'],
    ['pg_dump: error: query failed: ERROR:  permission denied for table x', 'program-failed'],
    ['', 'program-failed'],
  ]
  for (const [stderr, expected] of table) t.equal(code(stderr), expected, stderr)
  const other = new LifeboatError('cancelled', 'No space left on device')
  t.equal(withCause(other), other)
  const plain = new Error('No space left on device')
  t.equal(withCause(plain), plain)
})
