import { readdir, readFile, stat } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import { longSleeps } from '../support/long-sleeps.ts'
import { installationOf } from '../support/postgres.ts'
import { busyBackend, processes } from '../support/processes.ts'
import { noSmallDisk, openDirectory, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { clusterDump, plainDump, put, watchOnly } from '../support/watch-only.ts'

const name = 'app_backup_20260101_020000.sql'
const table = 'create table a (x text);\n'
const single = (body: string) => plainDump(`${table}${body}`)

async function watched(t: Test, extra?: string, clock?: Clock) {
  const directory = await scratchDirectory(t)
  const watching = await watchOnly(t, directory, extra, clock)
  const run = async (contents: string) => {
    await put(directory, name, contents)
    const run = await watching.verify()
    const restore = watching.proofOf(run).levels.restore
    return { run, restore, said: restore?.checks.map(({ detail }) => detail).join('\n') ?? '' }
  }
  return { ...watching, directory, run }
}

t.test('commands of psql that a dump never needs', { timeout: 120_000 }, async (t) => {
  const installation = await installationOf(17) // whose psql knows \restrict
  const { run, state } = await watched(t, `postgres: { binDir: ${installation.directory} }`)
  const open = await openDirectory(t)
  const body = [
    `\\! touch ${open}/mark`,
    `\\i ${join(state, 'lifeboat.db')}`,
    '\\connect "host=127.0.0.1 port=1"',
  ].join('\n')
  for (const dump of [single(body), clusterDump(`${table}${body}`)]) {
    const { run: ended, restore, said } = await run(dump)
    t.match(ended, { state: 'failed', failure: { code: 'verification-failed' } })
    t.match(restore, { verdict: 'fail' })
    t.match(said, /(?:.*backslash commands are restricted){3}/s, 'each of them')
    t.same(await readdir(open), [])
  }
})

t.test('statements that reach for the machine', { timeout: 120_000 }, async (t) => {
  const { run, state } = await watched(t)
  const open = await openDirectory(t)
  const secret = join(state, 'lifeboat.db')
  t.match((await readFile(secret)).subarray(0, 6).toString(), 'SQLite', 'it is there to be stolen')
  const hits: string[] = []
  const listener = createServer((socket) => {
    hits.push('connected')
    socket.destroy()
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  t.teardown(() => listener.close())
  const { port } = listener.address() as AddressInfo
  const script = [
    `id -u > ${open}/user`,
    `cat ${secret} > ${open}/leak 2> ${open}/refused`,
    `bash -c "exec 3<>/dev/tcp/127.0.0.1/${port}" 2> ${open}/network`,
    `echo end > ${open}/end`,
  ].join('; ')
  const { said, restore } = await run(single(`copy (select 1) to program '${script}';`))
  t.match(restore, { verdict: 'pass' }, said)
  t.equal((await readFile(join(open, 'end'), 'utf8')).trim(), 'end', 'the program did run, to its end')
  t.equal((await stat(join(open, 'leak'))).size, 0, 'the state is out of reach')
  t.match(await readFile(join(open, 'refused'), 'utf8'), /Permission denied|No such file/)
  if (process.getuid?.() === 0) t.not((await readFile(join(open, 'user'), 'utf8')).trim(), '0')
  if (/without namespaces/.test(said)) t.comment('this machine permits no namespaces: the network is open')
  else {
    t.match(await readFile(join(open, 'network'), 'utf8'), /unreachable|refused/i)
    t.same(hits, [], 'nobody was called')
  }
  const direct = await run(single(`insert into a values (pg_read_file('${secret}'));`))
  t.match(direct.restore, { verdict: 'fail', checks: [{ detail: /Permission denied|No such file/ }] })
})

const looping = `create function loop() returns void language plpgsql as $$ begin loop end loop; end $$;
select public.loop();`

for (const [title, body, code] of [
  ['a loop that is cancelled', looping, 'cancelled'],
  ['a pg_sleep that runs into the timeout', 'select pg_sleep(1e6);', 'timed-out'],
] as const) {
  t.test(title, { timeout: 120_000 }, async (t) => {
    let passed = 0
    const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + passed }
    const { core, directory, state } = await watched(t, 'verification: { timeout: 1h }', clock)
    await put(directory, name, single(body))
    const params = { backup: null, repository: null, database: null, level: 'data', rehash: false }
    const { id } = core.runner.trigger({ job: 'verify', params, trigger: 'cli', requestedBy: null })
    const ending = core.runner.wait(id)
    await busyBackend(join(state, 'work'), 'app', ending)
    if (code === 'cancelled') core.runner.cancel(id)
    else passed = 3_600_000
    t.match(await ending, { state: code === 'cancelled' ? 'cancelled' : 'failed', failure: { code } })
    t.same(await readdir(join(state, 'work')), [], 'nothing is left on disk')
    const left = (await processes()).filter(({ command }) => command.includes(state))
    t.same(left, [], 'nor a process')
  })
}

t.test('a dump that never ends takes its own time, and that of no other', { timeout: 120_000 }, async (t) => {
  const { clock, endThem } = longSleeps()
  const { core, directory, state, verify } = await watched(t, '', clock)
  await put(directory, name, single(looping))
  // It comes later, since it is larger.
  const good = single(`insert into a select 'x';\n${'-- as long as it must be\n'.repeat(20)}`)
  await put(directory, 'orders_backup_20260101_020000.sql', good)
  const ending = verify()
  await busyBackend(join(state, 'work'), 'app', ending)
  endThem()
  const run = await ending
  t.match(run, {
    state: 'failed',
    failure: {
      code: 'verification-inconclusive',
      message: /timed-out \(restore: given up after 21570 s/,
      hint: /targetTimeout/,
    },
    items: [
      { database: 'app', verdict: 'inconclusive', outcome: 'failed' },
      { database: 'orders', verdict: 'pass', outcome: 'succeeded' },
    ],
  })
  const proof = core.history.external.externalProofs().get(run.items[0]?.backupId ?? '')?.[0] ?? ''
  const { artifact, restore, data } = JSON.parse(proof).levels
  t.match({ artifact, restore }, { artifact: { verdict: 'pass' }, restore: { cause: 'timed-out' } })
  t.equal(data, undefined)
  t.same(await readdir(join(state, 'work')), [], 'nothing is left on disk')
  const left = (await processes()).filter(({ command }) => command.includes(state))
  t.same(left, [], 'nor a process')
})

t.test('a dump that fills the disk', { timeout: 120_000 }, async (t) => {
  const disk = await smallDisk(t, 450 * 1024 * 1024)
  if (disk === null) return t.comment(noSmallDisk)
  const { run } = await watched(t, `workDir: ${disk.directory}/work`)
  const { restore, said } = await run(
    single(`insert into a select repeat(md5(i::text), 60) from generate_series(1, 1e9) i;`),
  )
  t.equal(restore?.verdict, 'inconclusive')
  // Which of them comes first depends on the speed of the disk.
  t.match(restore?.cause, /^(?:disk-full|resources-exhausted)$/)
  t.match(said, /bytes free, of which \d+ are left alone|No space left/)
  t.same(await readdir(join(disk.directory, 'work')), [], 'it has its space again')
  t.match((await run(single(''))).restore, { verdict: 'pass' }, 'and the next one is verified')
})
