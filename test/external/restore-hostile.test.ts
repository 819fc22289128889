import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { inspectDump } from '../../src/external/inspect.ts'
import { restoreExternal } from '../../src/external/restore-external.ts'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { startCluster } from '../support/postgres.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'
import { clusterDump, plainDump } from '../support/watch-only.ts'

t.test('commands of psql that a dump never needs are refused', async (t) => {
  // Its psql knows \restrict.
  const cluster = await startCluster(t, { major: 17 })
  await cluster.createDatabase('app')
  const open = await openDirectory(t)
  const folder = await scratchDirectory(t)
  const mark = join(open, 'mark')
  const path = join(folder, 'dump.sql')
  const signal = AbortSignal.timeout(100_000)
  const env = await clientEnvironment({ source: cluster.source, serverMajor: 17, workFolder: folder })
  const restored = async (text: string) => {
    await writeFile(path, text)
    const inspection = await inspectDump(path, { installations: [], signal })
    const errors = await restoreExternal({
      ...{
        path,
        inspection,
        server: cluster.server,
        clients: cluster.installation,
        database: 'app',
        env,
        osUser: null, // nothing but the refusal is in their way
        signal,
      },
      jobs: 1,
      isolation: { through: null, detail: '' },
    })
    await cluster.sql('drop table if exists a', 'app')
    return errors.worst()
  }
  const attempts = [
    `\\! touch ${mark}`,
    `\\o |touch ${mark}`,
    `\\g |touch ${mark}`,
    `select 1 \\g |touch ${mark}`,
    `select 'touch ${mark}' \\gexec`,
    `\\copy (select 1) to program 'touch ${mark}'`,
    `\\copy (select 1) to '${mark}'`,
    `\\set x \`touch ${mark}\``,
    `\\i ${path}`,
    `\\w ${mark}`,
    '\\connect "host=127.0.0.1 port=1"',
    `\\connect \`touch ${mark}\``,
    `\\connect -reuse-previous=on "dbname='app' host='127.0.0.1'"`,
    `\\unrestrict guess\n\\! touch ${mark}`,
    `\\restrict own\n\\unrestrict own\n\\! touch ${mark}`,
    `\\connect app\n\\! touch ${mark}`,
    `select '\n\\connect app\n' \\! touch ${mark}`,
  ]
  for (const dump of [plainDump, clusterDump]) {
    for (const attempt of attempts) {
      const worst = await restored(dump(attempt))
      t.match(worst, { meaning: 'fault' }, attempt)
      t.match(worst?.messages.join('\n'), /backslash commands are restricted|\\unrestrict: wrong key/, attempt)
      t.same(await readdir(open), [], attempt)
    }
  }
  const connects = ['postgres', '"app"', `-reuse-previous=on "dbname='app'"`].map((name) => `\\connect ${name}`)
  t.equal(await restored(clusterDump(connects.join('\n'))), null, 'what pg_dumpall writes goes through')
  t.equal(await restored(plainDump('\\restrict Ab1\n\\unrestrict Ab1')), null, 'and the own restriction of a dump')
})
