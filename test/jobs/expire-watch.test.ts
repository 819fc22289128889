import { chmod, mkdir, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cli } from '../support/cli.ts'
import { parseExposition } from '../support/exposition.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type Served, serve, serveTokens } from '../support/serve.ts'
import { untilAnswer } from '../support/until.ts'
import { plainDump } from '../support/watch-only.ts'

const day = 86_400_000

/** A file that was written so many days ago, at four. */
async function put(
  directory: string,
  database: string,
  daysAgo: number,
  text = plainDump('select 1;'),
): Promise<string> {
  const at = new Date(Math.floor(Date.now() / day) * day - daysAgo * day + 4 * 3_600_000)
  const name = `${database}_backup_${at.toISOString().slice(0, 10).replaceAll('-', '')}_040000.sql`
  await writeFile(join(directory, name), text)
  await utimes(join(directory, name), at, at)
  return name
}

interface Listed {
  readonly id: string
  readonly file: { readonly name: string; readonly state: string } | null
  readonly retention: { readonly keep: boolean; readonly reasons: readonly string[] }
}

async function listed(served: Served): Promise<readonly Listed[]> {
  return ((await (await served.request('/api/backups?limit=500')).json()) as { backups: Listed[] }).backups
}

async function expire(served: Served, repository?: string) {
  const answer = await served.request('/api/admin/expire', repository === undefined ? {} : { repository })
  const { id } = (await answer.json()) as { id: string }
  return untilAnswer('the expiry', async () => {
    const run = (await (await served.request(`/api/runs/${id}`)).json()) as { finishedAt: string | null; state: string }
    return run.finishedAt !== null && run
  })
}

t.test('files of other tools expire where the configuration says so', { timeout: 180_000 }, async (t) => {
  const home = await scratchDirectory(t)
  const [nightly, other] = [join(home, 'nightly'), join(home, 'other')]
  for (const directory of [nightly, other]) await mkdir(directory)
  const kept = await Promise.all([1, 2, 3].map((ago) => put(nightly, 'app', ago)))
  const [held = '', ...old] = await Promise.all([41, 42, 43, 50].map((ago) => put(nightly, 'app', ago)))
  const broken = await put(nightly, 'app', 45, '--\n-- PostgreSQL database dump\n--\n\ncreate tab')
  const last = await put(nightly, 'crm', 100)
  const [unread, unreadToo] = [await put(nightly, 'odd', 60), await put(nightly, 'odd', 61)]
  await writeFile(join(nightly, 'notes.txt'), 'of no dump')
  const untouched = await put(other, 'app', 400)
  await put(other, 'app', 399)
  const yaml = JSON.stringify({
    ...{ cluster: 'test', listen: '127.0.0.1:0', stateDir: join(home, 'state'), auth: { tokens: serveTokens } },
    observe: { interval: '1s' },
    watch: [
      { directory: nightly, quietTime: '1s', retention: { keepFor: '30d', keepAtLeast: 2 } },
      { directory: other, quietTime: '1s' },
    ],
  })
  const served = await serve(home, yaml)
  t.teardown(() => served.end('SIGKILL'))
  const file = join(home, 'lifeboat.yaml')
  const files = (name: string) => readdir(name).then((names) => names.sort())

  const before = await untilAnswer('all to be read', async () => {
    const all = await listed(served)
    return all.length === 12 && all.every((one) => one.file?.state === 'sound') && all
  })
  const idOf = (name: string) => before.find((one) => one.file?.name === name)?.id ?? ''
  t.match(
    before.find(({ id }) => id === idOf(untouched)),
    { retention: { keep: true, reasons: ['forever'] } },
  )
  t.match(
    before.find(({ id }) => id === idOf(last)),
    { retention: { keep: true, reasons: ['last-usable', 'keep-at-least'] } },
  )

  t.match(await cli(['hold', idOf(held), '--reason', 'for the auditors', '-c', file]), {
    code: 0,
    out: `${idOf(held)} is held in nightly\n`,
  })
  const preview = await cli(['expire', '--dry-run', '-c', file])
  t.match(preview, { code: 0, out: /nightly: 11 backups, 4 would go, 7 stay/ })
  t.match(preview.out, new RegExp(`${held}.*stays.*it is held \\(for the auditors\\)`))
  t.match(preview.out, new RegExp(`${broken}.*goes`))
  t.notMatch(preview.out, /other: /)
  t.equal((await files(nightly)).length, 12, 'nothing was removed')
  t.equal((await cli(['expire', '--dry-run', '-r', 'other', '-c', file])).code, 2)
  await untilAnswer('the hold is shown', async () => {
    const metrics = parseExposition(await (await served.request('/metrics')).text())
    const value = (name: string) =>
      metrics.find((one) => one.name === name && one.labels.repository === 'nightly')?.value
    return value('lifeboat_backups_held') === 1 && value('lifeboat_retention_blocked') === 0
  })

  const run = await expire(served)
  t.match(run, { state: 'succeeded', items: Array.from({ length: 4 }, () => ({ backupType: 'external' })) })
  t.same(await files(nightly), [...kept, held, last, unread, unreadToo, 'notes.txt'].sort())
  t.equal((await files(other)).length, 2)
  t.ok(old.length === 3)
  t.match(await expire(served, 'nightly'), { state: 'succeeded', items: [] }, 'nothing more')
  t.equal((await served.request('/api/admin/expire', { repository: 'nowhere' })).status, 404)

  t.match(await cli(['hold', idOf(held), '--release', '-c', file]), { code: 0 })
  if (process.getuid?.() !== 0) {
    await chmod(nightly, 0o500)
    t.match(await cli(['expire', '-c', file]), { code: 1, err: /Let the OS user of lifeboat write/ })
    await chmod(nightly, 0o700)
  }
  t.match(await cli(['expire', '-c', file]), { code: 0, out: `removed ${idOf(held)} of app in nightly\n` })
})

t.test('while nobody has read the files, nothing goes', async (t) => {
  const home = await scratchDirectory(t)
  const nightly = join(home, 'nightly')
  await mkdir(nightly)
  for (const ago of [1, 40, 50]) await put(nightly, 'app', ago)
  const file = join(home, 'lifeboat.yaml')
  await writeFile(
    file,
    JSON.stringify({
      ...{ cluster: 'test', stateDir: join(home, 'state') },
      watch: [{ directory: nightly, retention: { keepFor: '30d', keepAtLeast: 1 } }],
    }),
  )
  t.match(await cli(['expire', '-c', file]), { code: 0, out: 'nothing had to go\n' })
  const preview = await cli(['expire', '--dry-run', '--json', '-c', file])
  const [told] = JSON.parse(preview.out) as [{ blocked: null; backups: { keep: boolean; reasons: string[] }[] }]
  t.match(told, { repository: 'nightly', blocked: null })
  t.equal(told.backups.length, 3)
  t.ok(told.backups.every(({ keep, reasons }) => keep && reasons.includes('no-better')))
  t.equal((await readdir(nightly)).length, 3)
})
