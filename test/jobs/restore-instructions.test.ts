import { execFile } from 'node:child_process'
import { cp, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { compareFingerprints, type Fingerprint } from '../../src/domain/fingerprint.ts'
import { connect } from '../../src/postgres/connection.ts'
import { fingerprintSettings, retakeFingerprint } from '../../src/postgres/fingerprint.ts'
import { suffixedName } from '../../src/postgres/swap-databases.ts'
import { type AgeKey, ageKey, encryptingFor, encryptionYaml } from '../support/age.ts'
import { createAwkwardDatabase } from '../support/awkward.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startSidecar } from '../support/sidecar.ts'

const run = promisify(execFile)

for (const major of [15, 17] as const) {
  t.test(`RESTORE.md, followed to the letter, on PostgreSQL ${major}`, { timeout: 100_000 }, async (t) => {
    const cluster = await startCluster(t, { major, superuser: 'boss' })
    const hostile = `it's "odd" \`x\`\n\`\`\`sh\ntouch /tmp/x\n\`\`\` -- 美`
    await createSampleDatabase(cluster.source, { name: 'app', scale: 0.02 })
    await cluster.sql('create table t as select 1 as i', 'postgres')
    await createAwkwardDatabase(cluster, hostile)
    // The other half of them encrypted.
    const key = await ageKey(await scratchDirectory(t))
    const sidecar = await startSidecar(t, cluster, {
      databases: major === 15 ? ['postgres', 'app', hostile] : [hostile],
      yaml: encryptionYaml(major === 15 ? null : encryptingFor([key], null)),
    })
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    for (const manifest of await sidecar.manifests()) {
      const name = manifest.database?.name ?? ''
      await t.test(JSON.stringify(name), async (t) => {
        const target = await startCluster(t, { major, superuser: 'boss' })
        const folder = join(await scratchDirectory(t), 'backup')
        await cp(sidecar.folder(manifest), folder, { recursive: true })
        const text = await readFile(join(folder, 'RESTORE.md'), 'utf8')
        const files = await readdir(folder)
        const env = {
          PATH: `${target.installation.directory}:/usr/bin:/bin`,
          PGHOST: target.source.host,
          PGPORT: String(target.source.port),
          PGUSER: 'boss',
          LIFEBOAT_KEY: key.file,
        }
        // All blocks in one shell, as a person would: only what psql says about the existing superuser may go wrong.
        const script = blocksOf(text, 'sh').join('\n')
        const temporary = await scratchDirectory(t)
        const [putAside] = blocksOf(text, 'bash')
        if (putAside !== undefined) {
          await target.createDatabase(name, 'create table present as select 1 as i')
          const user = await connect(target.source, { database: name })
          await run('bash', ['-e', '-c', putAside], { cwd: folder, env })
          await t.rejects(user.query('select'), 'its sessions are ended')
          const kept = suffixedName(name, 'before_restore')
          t.match(await target.sql('select i from present', kept), [{ i: 1 }], 'the present one is kept')
        } else t.equal(name, 'postgres')
        const { stdout, stderr } = await run('bash', ['-e', '-c', script], {
          cwd: folder,
          env: { ...env, TMPDIR: temporary },
        })
        t.same(await readdir(folder), files, 'nothing is done in the repository')
        t.match(stdout, /^dump\.tar(?:\.age)?: OK$/m)
        t.same(
          stderr.split('\n').filter((line) => line.includes('ERROR')),
          [
            `psql:globals.sql:${lineOf(await plain(folder, 'globals.sql', key), 'CREATE ROLE boss;')}: ERROR:  role "boss" already exists`,
          ],
        )
        const fingerprint = await plain(folder, 'fingerprint.json', key)
        t.same(await differences(target, name, fingerprint), [])
      })
    }
  })
}

/** The commands between lines of three backticks and a word, and of three backticks. */
function blocksOf(markdown: string, word: 'sh' | 'bash'): readonly string[] {
  return [...markdown.matchAll(new RegExp(`^\`\`\`${word}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block)
}

function lineOf(text: string, line: string): number {
  return text.split('\n').indexOf(line) + 1
}

/** An artifact, decrypted where it is encrypted. */
async function plain(folder: string, name: string, { file }: AgeKey): Promise<string> {
  const path = join(folder, name)
  if ((await readdir(folder)).includes(name)) return readFile(path, 'utf8')
  return (await run('age', ['-d', '-i', file, `${path}.age`])).stdout
}

async function differences(cluster: Cluster, database: string, fingerprint: string): Promise<readonly unknown[]> {
  const expected = JSON.parse(fingerprint) as Fingerprint
  const session = await connect(cluster.source, { database, settings: fingerprintSettings })
  try {
    await session.query('begin transaction isolation level repeatable read read only')
    return compareFingerprints(expected, await retakeFingerprint([session], expected)).filter(
      ({ verdict }) => verdict !== 'pass',
    )
  } finally {
    await session.close()
  }
}
