import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { HookConfig } from '../../src/config/validated.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { HookFailures, withHooks } from '../../src/jobs/hooks.ts'
import type { HookResult, Job, RunItem } from '../../src/runner/job.ts'
import { Runner } from '../../src/runner/runner.ts'
import { history } from '../runner/support.ts'
import { keptLog } from '../support/log.ts'
import { startCluster } from '../support/postgres.ts'
import { processes } from '../support/processes.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startSidecar } from '../support/sidecar.ts'

/** A tiny executable. */
async function script(directory: string, name: string, text: string): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, `#!/bin/sh\n${text}\n`)
  await chmod(path, 0o755)
  return path
}

function hook(program: string, more: Partial<HookConfig> = {}): HookConfig {
  return {
    name: 'h',
    when: 'before',
    jobs: ['dump'],
    on: 'always',
    program,
    args: [],
    timeoutMs: 10_000,
    onFailure: 'fail',
    ...more,
  }
}

async function around(
  hooks: readonly HookConfig[],
  work: (item: (item: RunItem) => void) => Promise<void> = async () => {},
  signal = new AbortController().signal,
) {
  const { log, lines } = keptLog()
  const failures = new HookFailures(hooks)
  const results: HookResult[] = []
  let ran = false
  const job: Job = {
    name: 'dump',
    lane: 'backup',
    timeoutSeconds: 60,
    run: async (_params, context) => {
      ran = true
      await work((item) => context.item(item))
    },
  }
  const wrapped = withHooks(job, { hooks, cluster: 'spavix', clock: systemClock, failures })
  const error = await wrapped
    .run(
      {},
      {
        runId: '20260101T020000Z-dump-abcdef',
        trigger: 'schedule',
        signal,
        log,
        progress: () => {},
        item: () => {},
        hook: (result) => results.push(result),
        retried: () => {},
      },
    )
    .then(
      () => null,
      (failure: unknown) => failure,
    )
  return { error, lines, ran, results, failures: failures.all().get('h') }
}

t.test('the facts of the run are in the environment', async (t) => {
  const directory = await scratchDirectory(t)
  const out = join(directory, 'out')
  const program = await script(directory, 'print', `env | grep ^LIFEBOAT_ | sort > "$1"; printf '%s' "$2" >> "$1"`)
  const item: RunItem = {
    outcome: 'succeeded',
    backupType: 'dump',
    database: 'a',
    backupId: '20260101T020000Z-dump-000001',
    finishedAt: '2026-01-01T02:00:00Z',
  }
  const after = hook(program, { when: 'after', args: [out, 'a "quoted" $HOME\n'] })
  const { error } = await around([after], async (tell) => {
    tell(item)
    tell({ ...item, outcome: 'failed' })
    throw new LifeboatError('disk-full', 'no space: "x"\nLIFEBOAT_STATE=succeeded')
  })
  t.match(error, { code: 'disk-full' })
  const text = await readFile(out, 'utf8')
  t.match(text, 'LIFEBOAT_BACKUP_IDS=20260101T020000Z-dump-000001\n')
  t.match(text, /^LIFEBOAT_FAILURE_CODE=disk-full$/m)
  t.match(text, /^LIFEBOAT_STATE=failed$/m)
  t.match(text, /^LIFEBOAT_FAILED_ITEMS=1$/m)
  t.match(text, 'LIFEBOAT_RUN_ID=20260101T020000Z-dump-abcdef')
  t.match(text, /^LIFEBOAT_TRIGGER=schedule$/m)
  t.ok(text.endsWith('a "quoted" $HOME\n'), 'there is no shell')
})

t.test('before', async (t) => {
  const directory = await scratchDirectory(t)
  const bad = await script(directory, 'bad', 'echo no disk >&2; exit 3')
  const refused = await around([hook(bad)])
  t.match(refused.error, {
    code: 'hook-failed',
    message: /hook h failed, so the job was not begun: bad exited with status 3: no disk/,
  })
  t.equal(refused.ran, false)
  t.equal(refused.failures, 1)
  t.match(refused.results, [{ name: 'h', when: 'before', outcome: 'failed', failure: { code: 'program-failed' } }])
  const warned = await around([hook(bad, { onFailure: 'warn' })])
  t.equal(warned.error, null)
  t.equal(warned.ran, true)
  t.match(warned.lines, [{ msg: 'hook failed', hook: 'h', code: 'program-failed' }])
  t.match((await around([hook(join(directory, 'nothing'))])).error, { message: /program not found/ })
  t.match((await around([hook(directory)])).error, { code: 'hook-failed', message: /EACCES/ })
  const lost = join(directory, 'lost')
  await writeFile(lost, '#!/nowhere/interpreter\n')
  await chmod(lost, 0o755)
  t.match((await around([hook(lost)])).error, {
    code: 'hook-failed',
    message: /is there, but what should run it is not/,
  })
  t.match(await around([hook(bad, { jobs: ['verify'] })]), { ran: true, error: null }, 'of another job')
})

t.test('after', async (t) => {
  const directory = await scratchDirectory(t)
  const bad = await script(directory, 'bad', 'exit 3')
  t.match(
    await around([hook(bad, { when: 'after' })]),
    { error: null, failures: 1 },
    'never changes what came of the job',
  )
  const fails = () => Promise.reject(new LifeboatError('disk-full', 'no'))
  t.match(await around([hook(bad, { when: 'after', on: 'success' })], fails), { failures: 0 })
  t.match(await around([hook(bad, { when: 'after', on: 'failure' })], fails), { failures: 1 })
  t.match(await around([hook(bad, { when: 'after', on: 'failure' })]), { failures: 0 })
  const out = join(directory, 'out')
  const print = await script(directory, 'print', `echo "$LIFEBOAT_STATE" > "$1"`)
  const both = [hook(bad), hook(print, { name: 'p', when: 'after', args: [out] })]
  await around(both)
  t.equal(await readFile(out, 'utf8'), 'failed\n', 'also when a hook kept the job from beginning')
  const stop = new AbortController()
  await around(
    [hook(print, { when: 'after', args: [out] })],
    async () => stop.abort(new LifeboatError('cancelled', 'enough')),
    stop.signal,
  )
  t.equal(await readFile(out, 'utf8'), 'succeeded\n')
})

t.test('hooks that misbehave', { timeout: 60_000 }, async (t: Test) => {
  const directory = await scratchDirectory(t)
  const deaf = await script(directory, 'deaf', `trap '' TERM\nsleep 61234 &\nwhile :; do sleep 1; done`)
  const hung = await around([hook(deaf, { timeoutMs: 500 })])
  t.match(hung.error, { code: 'hook-failed', message: /took longer than 0.5 s/ })
  t.notOk(
    (await processes()).some(({ command }) => command === 'sleep 61234'),
    'and what it had started is gone',
  )
  const stop = new AbortController()
  const waiting = around([hook(deaf)], undefined, stop.signal)
  setTimeout(() => stop.abort(new LifeboatError('cancelled', 'enough')), 300)
  t.match(await waiting, { ran: false, error: { code: 'cancelled' } }, 'a cancel ends it')

  const before = process.memoryUsage().rss
  const loud = await script(directory, 'loud', 'head -c 1000000000 /dev/zero | tr "\\0" x')
  t.match(await around([hook(loud, { timeoutMs: 30_000 })]), { error: null, ran: true })
  t.ok(process.memoryUsage().rss - before < 200 * 1_048_576, 'a gigabyte of output is not kept')
  const forks = await script(directory, 'forks', 'setsid sleep 4 & exit 0')
  const begun = systemClock.monotonic()
  t.match(await around([hook(forks)]), { error: null, results: [{ outcome: 'succeeded' }] })
  t.ok(systemClock.monotonic() - begun < 3_500, 'a grandchild that holds the pipes is not waited for')
})

t.test('what a hook leaves behind in its process group ends with it', async (t) => {
  const directory = await scratchDirectory(t)
  const leaves = await script(directory, 'leaves', 'sleep 61235 &')
  t.match(await around([hook(leaves)]), { error: null })
  t.notOk((await processes()).some(({ command }) => command === 'sleep 61235'))
})

t.test('more backups than the environment can carry', async (t) => {
  const directory = await scratchDirectory(t)
  const out = join(directory, 'out')
  const count = await script(directory, 'count', `echo $LIFEBOAT_BACKUP_IDS | wc -w > "${out}"`)
  const ids = Array.from({ length: 5_000 }, (_, index) => `20260101T020000Z-dump-${String(index).padStart(6, '0')}`)
  const { error } = await around([hook(count, { when: 'after' })], async (tell) => {
    for (const backupId of ids)
      tell({ outcome: 'succeeded', backupType: 'dump', database: 'a', backupId, finishedAt: '2026-01-01T02:00:00Z' })
  })
  t.equal(error, null)
  t.equal((await readFile(out, 'utf8')).trim(), '1000')
})

/** A runner with the real job around which a hook hangs, stopped at the end of the test. */
async function hanging(t: Test, work: () => Promise<void>, timeoutSeconds = 600) {
  const directory = await scratchDirectory(t)
  const begun = join(directory, 'begun')
  const sleeps = await script(directory, 'sleeps', `echo "$LIFEBOAT_STATE" > "${begun}"; sleep 61236`)
  const hooks = [1, 2, 3].map((number) => hook(sleeps, { name: `h${number}`, when: 'after', timeoutMs: 600_000 }))
  const { log } = keptLog()
  const store = history(directory, systemClock)
  const failures = new HookFailures(hooks)
  const job: Job = { name: 'dump', lane: 'backup', timeoutSeconds, run: work }
  const runner = new Runner({
    jobs: [withHooks(job, { hooks, cluster: 'spavix', clock: systemClock, failures })],
    schedules: [],
    history: store,
    clock: systemClock,
    log,
  })
  t.teardown(async () => {
    await runner.stop()
    store.close()
  })
  await runner.start()
  const { id } = runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: null })
  const state = async () => {
    for (;;) {
      const text = await readFile(begun, 'utf8').catch(() => '')
      if (text !== '') return text.trim()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  return { runner, id, state }
}

t.test('hooks after a job change no verdict, however they end', { timeout: 120_000 }, async (t) => {
  const begun = systemClock.monotonic()
  const endings = [
    { how: 'cancel', end: async ({ runner, id }: Awaited<ReturnType<typeof hanging>>) => void runner.cancel(id) },
    { how: 'shutdown', end: ({ runner }: Awaited<ReturnType<typeof hanging>>) => runner.stop() },
    { how: 'timeout of the run', end: async () => {}, timeoutSeconds: 2 },
  ]
  const fails = () => Promise.reject(new LifeboatError('disk-full', 'no'))
  await Promise.all(
    endings.flatMap(({ how, end, timeoutSeconds }) =>
      [async () => {}, fails].map(async (work) => {
        const one = await hanging(t, work, timeoutSeconds)
        const wanted = work === fails ? 'failed' : 'succeeded'
        t.equal(await one.state(), wanted, `${how}: it knows what came of the job`)
        const ended = one.runner.wait(one.id)
        await end(one)
        const run = await ended
        t.match(run, { state: wanted, failure: work === fails ? { code: 'disk-full' } : null }, how)
        t.match(
          run.hooks.map(({ name, outcome }) => [name, outcome]),
          [
            ['h1', 'failed'],
            ['h2', 'failed'],
            ['h3', 'failed'],
          ],
          `${how}: each of them is told of`,
        )
      }),
    ),
  )
  t.ok(systemClock.monotonic() - begun < 20_000, 'all hooks of a run share one grace')
  t.notOk(
    (await processes()).some(({ command }) => command === 'sleep 61236'),
    'and nothing of them is left',
  )
})

t.test('around a real backup', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select 1 as i')
  const directory = await scratchDirectory(t)
  const out = join(directory, 'out')
  const print = await script(
    directory,
    'print',
    `echo "$LIFEBOAT_WHEN $LIFEBOAT_STATE $LIFEBOAT_BACKUP_IDS" >> "${out}"`,
  )
  const bad = await script(directory, 'bad', 'exit 1')
  const hooks = [
    { name: 'first', when: 'before', jobs: ['dump'], command: [print] },
    { name: 'bad', when: 'after', on: 'success', command: [bad] },
    { name: 'last', when: 'after', command: [print] },
    { name: 'never', when: 'after', on: 'failure', command: [bad] },
  ]
  const sidecar = await startSidecar(t, cluster, { databases: ['app'], yaml: { hooks } })
  const run = await sidecar.run('dump')
  t.match(run, { state: 'succeeded', failure: null })
  t.match(run.hooks, [
    { name: 'first', when: 'before', outcome: 'succeeded' },
    { name: 'bad', when: 'after', outcome: 'failed', failure: { code: 'program-failed' } },
    { name: 'last', outcome: 'succeeded' },
  ])
  t.equal(run.hooks.length, 3)
  const [manifest] = await sidecar.manifests()
  t.equal(await readFile(out, 'utf8'), `before running \nafter succeeded ${manifest?.backupId}\n`)
  t.same(
    [...sidecar.core.hookFailures()],
    [
      ['first', 0],
      ['bad', 1],
      ['last', 0],
      ['never', 0],
    ],
  )
})
