import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { HookConfig } from '../../src/config/validated.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { HookFailures, withHooks } from '../../src/jobs/hooks.ts'
import type { Job, RunItem } from '../../src/runner/job.ts'
import { keptLog } from '../support/log.ts'
import { processes } from '../support/processes.ts'
import { scratchDirectory } from '../support/scratch.ts'

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
    .run({}, { runId: '20260101T020000Z-dump-abcdef', signal, log, progress: () => {}, item: () => {} })
    .then(
      () => null,
      (failure: unknown) => failure,
    )
  return { error, lines, ran, failures: failures.all().get('h') }
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
  t.ok(text.endsWith('a "quoted" $HOME\n'), 'there is no shell')
})

t.test('before', async (t) => {
  const directory = await scratchDirectory(t)
  const bad = await script(directory, 'bad', 'echo no disk >&2; exit 3')
  const refused = await around([hook(bad)])
  t.match(refused.error, {
    code: 'hook-failed',
    message: /hook h failed, so dump was not begun: bad exited with status 3: no disk/,
  })
  t.equal(refused.ran, false)
  t.equal(refused.failures, 1)
  const warned = await around([hook(bad, { onFailure: 'warn' })])
  t.equal(warned.error, null)
  t.equal(warned.ran, true)
  t.match(warned.lines, [{ msg: 'hook failed', hook: 'h', code: 'program-failed' }])
  t.match((await around([hook(join(directory, 'nothing'))])).error, { message: /program not found/ })
  t.match((await around([hook(directory)])).error, { code: 'hook-failed', message: /EACCES/ })
  const lost = join(directory, 'lost')
  await writeFile(lost, '#!/nowhere/interpreter\n')
  await chmod(lost, 0o755)
  t.match((await around([hook(lost)])).error, { code: 'hook-failed' })
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
  t.match(await around([hook(forks)]), { error: null })
  t.ok(systemClock.monotonic() - begun < 3_500, 'a grandchild that holds the pipes is not waited for')
})
