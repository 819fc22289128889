import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { checkEncryption } from '../../src/check/encryption.ts'
import type { EncryptionConfig } from '../../src/config/validated.ts'
import { findArtifact, isEncrypted, type Manifest } from '../../src/domain/backup.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { type AgeKey, ageKey, encryptingFor, encryptionYaml } from '../support/age.ts'
import { startCluster } from '../support/postgres.ts'
import { noSmallDisk, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { type Sidecar, startSidecar } from '../support/sidecar.ts'
import { copyRepository, flipBit, folderIn } from '../support/tamper.ts'
import { proofOf, verdictsOf } from '../support/verified.ts'

const secret = 'a secret that nobody else may read'

t.test('dumps are encrypted', { timeout: 240_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase(
    'app',
    `create table hidden_table as select '${secret}' || i as words from generate_series(1, 5000) i`,
  )
  await cluster.sql(`create role hidden_role password '${secret}'`)
  const directory = await scratchDirectory(t)
  const [ours, others] = [await ageKey(directory, 'ours'), await ageKey(directory, 'others')]
  const repositories = { a: join(directory, 'a'), b: join(directory, 'b') }
  const start = (t: Test, encryption: EncryptionConfig | null, more: Parameters<typeof startSidecar>[2] = {}) =>
    startSidecar(t, cluster, {
      databases: ['app'],
      repositories,
      ...more,
      yaml: { ...encryptionYaml(encryption), ...more.yaml },
    })
  const before = await start(t, null)
  t.match(await before.run('dump'), { state: 'succeeded' })
  // Public keys are all that it needs.
  const writing = await start(t, encryptingFor([ours], null), { directory: before.directory })
  t.match(await writing.run('dump'), { state: 'succeeded', failure: null })
  const [plain, manifest] = await writing.manifests()
  if (manifest === undefined || plain === undefined) return t.fail('there are not two backups')

  await t.test('what is stored', async (t) => {
    t.same([isEncrypted(plain), isEncrypted(manifest)], [false, true])
    t.same(
      manifest.artifacts.map(({ name }) => name),
      ['dump.tar.age', 'fingerprint.json.age', 'globals.sql.age', 'details.json.age', 'RESTORE.md'],
    )
    t.match(manifest.database, { name: 'app' })
    for (const { name, plain } of manifest.artifacts)
      t.equal(plain.sha256 === null, name.endsWith('.age'), `the hash of the plain ${name} is not told`)
    const files = await readdir(writing.folder(manifest, 'a'))
    t.same(await readdir(writing.folder(manifest, 'b')), files)
    for (const name of files) {
      const [a, b] = await Promise.all(['a', 'b'].map((one) => readFile(join(writing.folder(manifest, one), name))))
      t.ok(a?.equals(b ?? Buffer.alloc(0)), `${name} has the same bytes in every repository`)
      for (const words of [secret, 'hidden_table', 'hidden_role']) t.notOk(a?.includes(words), `${words} in ${name}`)
    }
    const dump = findArtifact(manifest, 'dump.tar')
    t.equal(dump?.plain.bytes, findArtifact(plain, 'dump.tar')?.plain.bytes)
    const opened = await openByHand(writing, manifest, 'globals.sql', ours)
    t.match(opened, 'hidden_role')
    t.match(JSON.parse(await openByHand(writing, manifest, 'details.json', ours)), {
      artifacts: [
        { name: 'dump.tar', plain: { sha256: String } },
        { name: 'fingerprint.json' },
        { name: 'globals.sql' },
      ],
    })
    t.same(await writing.leftovers(), [])
  })

  const verified = async (t: Test, encryption: EncryptionConfig | null, backup: string, level = 'data') => {
    const one = await start(t, encryption, { directory: before.directory })
    const run = await one.run('verify', { backup, repository: 'a', level })
    return { run, levels: verdictsOf(await proofOf(one, { backupId: backup })), one }
  }

  await t.test('verification without a key, with another one, and with the right one', async (t) => {
    const { backupId } = manifest
    for (const [encryption, cause, words] of [
      [encryptingFor([ours], null), 'identity-missing', /no identity is configured/],
      [encryptingFor([ours], others.file), 'identity-mismatch', /none of the configured identities opens it/],
    ] as const) {
      const { run, levels } = await verified(t, encryption, backupId)
      t.match(run, { state: 'failed', failure: { code: 'verification-inconclusive', message: words } }, cause)
      t.same(levels, { artifact: 'pass', restore: cause })
      t.match(await verified(t, encryption, backupId, 'artifact'), {
        run: { state: 'succeeded' },
        levels: { artifact: 'pass' },
      })
    }
    const { run, levels, one } = await verified(t, encryptingFor([others], ours.file), backupId)
    t.match(run, { state: 'succeeded', failure: null })
    t.same(levels, { artifact: 'pass', restore: 'pass', data: 'pass' })
    t.same(await one.leftovers(), [])
    // What is stored says what it is, not the configuration.
    for (const encryption of [null, encryptingFor([ours], null)])
      t.same((await verified(t, encryption, plain.backupId)).levels, {
        artifact: 'pass',
        restore: 'pass',
        data: 'pass',
      })
  })

  await t.test('what a restored copy says does not get into the repository', async (t) => {
    const assertions = [{ name: 'first', database: 'app', sql: 'select words from hidden_table', expect: 'nothing' }]
    const one = await start(t, encryptingFor([ours]), {
      directory: before.directory,
      yaml: { verification: { assertions } },
    })
    const run = await one.run('verify', { backup: manifest.backupId, repository: 'a' })
    t.match(run, { state: 'failed', failure: { code: 'verification-failed', message: new RegExp(secret) } })
    const proof = await proofOf(one, { backupId: manifest.backupId })
    t.match(proof.levels.data, { verdict: 'fail', cause: 'assertion-failed' })
    t.notMatch(JSON.stringify(proof), secret)
    t.match(await one.run('copy', { backup: manifest.backupId, repository: 'b' }), {
      state: 'failed',
      failure: { code: 'verification-failed', message: /every other copy .* was refuted/ },
    })
    t.match(
      await (await start(t, encryptingFor([ours]), { directory: before.directory })).run('verify', {
        ...{ backup: manifest.backupId, repository: 'a' },
      }),
      { state: 'succeeded' },
    )
  })

  await t.test('a repository that is new gets what is encrypted, and nothing else', async (t) => {
    const [c, d] = [join(directory, 'c'), join(directory, 'd')]
    const one = await start(t, encryptingFor([ours], null), {
      directory: before.directory,
      repositories: { ...repositories, c, d },
    })
    t.match(await one.run('copy', { backup: plain.backupId, repository: 'c' }), {
      state: 'failed',
      failure: { code: 'conflict', message: /is not encrypted/ },
    })
    t.match(await one.run('copy', { backup: manifest.backupId, repository: 'c' }), {
      state: 'succeeded',
      failure: null,
    })
    const [from, to] = ['a', 'c'].map((name) => join(directory, name, 'test', 'backups'))
    t.same(await readdir(to ?? ''), [manifest.backupId])
    for (const name of await readdir(join(to ?? '', manifest.backupId))) {
      const [a, b] = await Promise.all([from, to].map((place) => readFile(join(place ?? '', manifest.backupId, name))))
      t.ok(a?.equals(b ?? Buffer.alloc(0)), name)
    }
    await rm(c, { recursive: true })
    const files = ['a', 'b'].map((name) => join(one.folder(manifest, name), 'dump.tar.age'))
    const whole = await readFile(files[0] ?? '')
    for (const [file, wish] of [
      [files[0], { state: 'succeeded' }],
      [files[1], { state: 'failed', failure: { code: 'artifact-invalid', message: /in repository b does not hold/ } }],
    ] as const) {
      await rm(join(d, 'test', 'backups'), { recursive: true, force: true })
      await flipBit(file ?? '')
      const run = await one.run('copy', { backup: manifest.backupId, repository: 'd' })
      t.match(run, wish, 'what is damaged in one comes from the next')
    }
    t.same(await readdir(join(d, 'test', 'backups')).catch(() => []), [], 'and of what none has whole nothing stays')
    for (const file of files) await writeFile(file, whole)
    await rm(d, { recursive: true, force: true })
  })

  await t.test('restore', async (t) => {
    const wish = { backup: manifest.backupId, target: 'copy' }
    for (const [encryption, code] of [
      [null, 'identity-missing'],
      [encryptingFor([ours], others.file), 'identity-mismatch'],
    ] as const) {
      const one = await start(t, encryption, { directory: before.directory })
      t.match(await one.run('restore', wish), { state: 'failed', failure: { code, hint: String } })
      t.same(await cluster.sql(`select from pg_database where datname = 'copy'`), [], 'nothing was touched')
    }
    const one = await start(t, encryptingFor([others], ours.file), { directory: before.directory })
    t.match(await one.run('restore', wish), { state: 'succeeded', failure: null })
    t.match(await cluster.sql('select count(*)::int as n from hidden_table', 'copy'), [{ n: 5000 }])
  })

  await t.test('a key is added, and another one taken away', async (t) => {
    const keys = join(directory, 'keys.txt')
    const text = await Promise.all([others, ours].map(({ file }) => readFile(file, 'utf8')))
    await writeFile(keys, text.join(''), { mode: 0o600 })
    const one = await start(t, encryptingFor([others], keys), { directory: before.directory })
    t.match(await one.run('dump'), { state: 'succeeded' })
    const newest = (await one.manifests()).at(-1) as Manifest
    for (const { backupId } of [manifest, newest])
      t.match(await one.run('verify', { backup: backupId, repository: 'b', level: 'restore' }), { state: 'succeeded' })
    t.match(await openByHand(one, newest, 'globals.sql', others), 'hidden_role')
    await t.rejects(openByHand(one, newest, 'globals.sql', ours), /no identity matched/)
  })

  await t.test('damage', async (t) => {
    const damages: readonly (readonly [string, (file: string) => Promise<unknown>, string])[] = [
      ['a bit in the middle', (file) => flipBit(file), 'checksum-mismatch'],
      ['a bit in the header', (file) => flipBit(file, 60), 'checksum-mismatch'],
      ['cut off', (file) => truncate(file, 20_000), 'size-mismatch'],
      ['gone', (file) => rm(file), 'artifact-missing'],
    ]
    for (const [what, damage, cause] of damages) {
      const keyless = cause === 'checksum-mismatch' ? [encryptingFor([ours], null)] : []
      for (const encryption of [encryptingFor([ours]), ...keyless]) {
        const repository = await copyRepository(t, writing)
        await damage(join(folderIn(repository, manifest), 'dump.tar.age'))
        const one = await start(t, encryption, { repositories: { a: repository } })
        const run = await one.run('verify', { backup: manifest.backupId })
        t.match(run, { state: 'failed', failure: { code: 'verification-failed' } }, what)
        t.same(verdictsOf(await proofOf(one, manifest)), { artifact: cause }, what)
      }
    }
    // The other repository has it whole.
    const repository = await copyRepository(t, writing)
    for (const name of ['details.json.age', 'dump.tar.age']) await flipBit(join(folderIn(repository, manifest), name))
    const both = { repositories: { a: repository, b: repositories.b } }
    const one = await start(t, encryptingFor([ours]), both)
    t.match(await one.run('restore', { backup: manifest.backupId, target: 'second' }), {
      state: 'succeeded',
      items: [{ repository: 'b' }],
    })
  })

  await t.test('keys that will not do are told before anything is begun', async (t) => {
    const typo = { ...ours, recipient: ours.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q')) }
    const one = await start(t, encryptingFor([typo]), { repositories: { a: join(directory, 'c') } })
    t.match(await one.run('dump'), { state: 'failed', items: [], failure: { code: 'config-invalid' } })
    t.same(await one.leftovers(), [])
  })

  await t.test('age is killed amid', async (t) => {
    const programs = join(directory, 'programs')
    await mkdir(programs)
    // Lets through what fits into its first look.
    const script = `#!/bin/sh
first=$(mktemp -p ${programs})
head -c 20000 >"$first"
[ "$(stat -c %s "$first")" = 20000 ] || exec /usr/bin/age "$@" <"$first"
cat "$first"
kill -9 $$
`
    await writeFile(join(programs, 'age'), script, { mode: 0o755 })
    const path = process.env.PATH ?? ''
    process.env.PATH = `${programs}:${path}`
    try {
      const one = await start(t, encryptingFor([ours], null), { repositories: { a: join(directory, 'killed') } })
      t.match(await one.run('dump'), { state: 'failed', failure: { code: 'program-failed', message: /SIGKILL/ } })
      t.same(await one.manifests(), [])
      t.same(await one.leftovers(), [])
    } finally {
      process.env.PATH = path
    }
  })

  await t.test('lifeboat check', async (t) => {
    const found = async (encryption: EncryptionConfig | null) => {
      const { config, core } = await start(t, encryption, { directory: before.directory })
      const all = core.repositories.map(({ repository }) => repository)
      const findings = await checkEncryption(config, all, new AbortController().signal)
      return findings.map(({ status, what }) => `${status} ${what.replace(/\d{8}T\w+-dump-\w+/, 'ID')}`)
    }
    // The newest ones are for the other key.
    const newest = 'ID, the newest that is encrypted,'
    const version = (await runProgram({ program: 'age', args: ['--version'] })).stdout.trim()
    t.same(await found(encryptingFor([others])), [
      `ok age ${version}`,
      'ok what is stored from now on is encrypted',
      'ok the identity opens what is encrypted from now on',
      `ok a: ${newest} was opened`,
      `ok b: ${newest} was opened`,
    ])
    t.same((await found(encryptingFor([others], ours.file))).slice(2), [
      'error the identity belongs to none of the recipients: it will not open the backups from now on',
      `error a: ${newest} was not opened: none of the configured identities opens it`,
      `error b: ${newest} was not opened: none of the configured identities opens it`,
    ])
    t.same((await found(encryptingFor([ours], null))).slice(2), [
      'warning no identity is configured here: nothing proves that the backups can be opened',
      `warning a: ${newest} cannot be opened here: no identity is configured`,
      `warning b: ${newest} cannot be opened here: no identity is configured`,
    ])
    t.equal((await found(null)).length, 2, 'also where encryption was switched off')
    const typo = { ...ours, recipient: ours.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q')) }
    t.match((await found(encryptingFor([typo])))[1], /^error age cannot use the configured keys: malformed recipient/)
  })

  const disk = await smallDisk(t, 2 * 1024 * 1024)
  await t.test('a full disk', { skip: disk === null && noSmallDisk }, async (t) => {
    await cluster.sql('create table large as select md5(i::text) from generate_series(1, 250000) i', 'app')
    const one = await start(t, encryptingFor([ours], null), {
      repositories: { a: join(disk?.directory ?? '', 'a'), b: join(directory, 'd') },
    })
    t.match(await one.run('dump'), {
      state: 'failed',
      failure: { code: 'disk-full' },
      items: [
        { repository: 'b', outcome: 'succeeded' },
        { repository: 'a', outcome: 'failed', failure: { code: 'disk-full' } },
      ],
    })
    t.same(await one.leftovers(), [])
  })
})

/** As a person would. */
async function openByHand(sidecar: Sidecar, manifest: Manifest, name: string, { file }: AgeKey): Promise<string> {
  const path = join(sidecar.folder(manifest, 'a'), `${name}.age`)
  return (await runProgram({ program: 'age', args: ['-d', '-i', file, path] })).stdout
}
