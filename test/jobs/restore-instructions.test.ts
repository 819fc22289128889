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
    const sidecar = await startSidecar(t, cluster, {
      databases: major === 15 ? ['postgres', 'app', hostile] : [hostile],
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
        t.match(stdout, /dump\.tar: OK/)
        t.same(
          stderr.split('\n').filter((line) => line.includes('ERROR')),
          [
            `psql:globals.sql:${lineOf(await readFile(join(folder, 'globals.sql'), 'utf8'), 'CREATE ROLE boss;')}: ERROR:  role "boss" already exists`,
          ],
        )
        t.same(await differences(target, name, folder), [])
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

async function differences(cluster: Cluster, database: string, folder: string): Promise<readonly unknown[]> {
  const expected = JSON.parse(await readFile(join(folder, 'fingerprint.json'), 'utf8')) as Fingerprint
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
