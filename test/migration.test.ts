import { readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { loadConfig } from '../src/config/load.ts'
import { isWatchOnly } from '../src/config/validated.ts'
import { createSampleDatabase } from '../src/demo/sample-database.ts'
import { metricDefinitions } from '../src/metrics/names.ts'
import { cli } from './support/cli.ts'
import { makeForeignDumps } from './support/dumps.ts'
import { startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'

const guide = await readFile(new URL('../docs/migration.md', import.meta.url), 'utf8')
const blocks = [...guide.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => text)
const commands = [...guide.matchAll(/^(lifeboat .*?)(?:\s+#.*)?$/gm)].map(([, text = '']) => text)

t.test('the guide is followed, step by step', { timeout: 120_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const state = await scratchDirectory(t)
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'spavix', scale: 0.05 })
  const made = await makeForeignDumps(cluster, 'spavix', await scratchDirectory(t))
  // As the script of many writes it: a custom dump, gzipped, called .sql.gz.
  const file = join(directory, 'spavix_backup_20260101_020000.sql.gz')
  await writeFile(file, await readFile(made.customGzip))
  await utimes(file, new Date('2026-01-01T02:01:00Z'), new Date('2026-01-01T02:01:00Z'))
  const place = (text: string) =>
    text.replaceAll('/var/backups/spavix', directory).replaceAll('/var/backups/lifeboat', join(state, 'repository'))

  t.equal(blocks.length, 4, 'watch, prove, dump, keep')
  const config = join(state, 'lifeboat.yaml')
  let merged: Record<string, unknown> = { stateDir: join(state, 'state') }
  const write = async (index: number) => {
    merged = { ...merged, ...(parse(place(blocks[index] ?? '')) as object) }
    await writeFile(config, JSON.stringify(merged), { mode: 0o600 })
    return loadConfig({ path: config, env: {} })
  }
  const run = (word: string) => {
    const line = commands.find((one) => one.startsWith(`lifeboat ${word}`)) ?? ''
    return cli(
      line
        .split(' ')
        .slice(1)
        .map((part) => place(part === '/etc/lifeboat/lifeboat.yaml' ? config : part)),
    )
  }

  const init = await run('init')
  t.match(init, { code: 0, out: /1 of \{database\}_backup_\{timestamp\}\{ext\}/ })
  const found = await loadConfig({ path: config, env: {} })
  t.ok(isWatchOnly(found))
  t.match(
    found.watch.filter((one) => one.directory === directory),
    [{ pattern: '{database}_backup_{timestamp}{ext}' }],
  )
  t.match((await run('init')).err, /is there already, and is not overwritten/)
  t.ok(isWatchOnly(await write(0)))
  t.match(await run('check'), { code: 0, out: /spavix|watch/ })
  t.match((await run('list')).out, /spavix_backup_20260101_020000\.sql\.gz/)
  await write(1)
  t.match(await run('verify'), { code: 0, out: /: pass\n/ }, 'the file of the script is proven')
  const full = await write(2)
  t.notOk(isWatchOnly(full))
  t.same(full.postgres.databases, ['spavix'])
  const kept = await write(3)
  t.match(kept.repositories[0]?.retention, { keepAtLeast: 7, monthly: 12 })
})

t.test('what it names is there', async (t) => {
  for (const [name] of guide.matchAll(/lifeboat_[a-z_]+/g)) t.ok(Object.hasOwn(metricDefinitions, name), name)
  for (const [, page = ''] of guide.matchAll(/\]\(([a-z-]+\.md)/g)) {
    t.ok((await readFile(new URL(`../docs/${page}`, import.meta.url), 'utf8')).length > 0, page)
  }
})
