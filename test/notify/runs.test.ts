import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { History, type HistoryOptions } from '../../src/runner/history.ts'
import type { Run } from '../../src/runner/job.ts'
import { Runner } from '../../src/runner/runner.ts'
import { memoryLog, puppet } from '../runner/support.ts'
import { processes } from '../support/processes.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { serve, serveTokens } from '../support/serve.ts'
import { mainFile } from '../support/sidecar.ts'

/** What was told, in the order in which it came: event and state, and why it failed. */
async function receiver(t: Test) {
  const told: string[] = []
  const bodies: Record<string, unknown>[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      const body = JSON.parse(text) as { event: string; run: Run; failure: { code: string } | null }
      bodies.push({ ...body })
      told.push(`${body.event} ${body.run.state}${body.failure === null ? '' : ` ${body.failure.code}`}`)
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { told, bodies, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret-path` }
}

/** A sidecar without a server: every dump fails at once, but for what its hooks do. */
async function place(t: Test, url: string, more: object = {}) {
  const directory = await scratchDirectory(t)
  await mkdir(join(directory, 'repository'))
  const text = JSON.stringify({
    cluster: 'test',
    listen: '127.0.0.1:0',
    stateDir: join(directory, 'state'),
    postgres: { host: '/nonexistent' },
    repositories: [{ name: 'local', url: `file://${join(directory, 'repository')}` }],
    schedule: { catchUp: false },
    runner: { retries: 0 },
    auth: { tokens: serveTokens },
    notify: [{ name: 'ops', url }],
    ...more,
  })
  return { directory, text }
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = systemClock.monotonic() + 20_000
  while (!(await holds())) {
    if (systemClock.monotonic() > deadline) throw new Error(`never seen: ${what}`)
    await delay(50)
  }
}

async function lifeboat(file: string, ...args: readonly string[]) {
  const child = spawn(process.execPath, [mainFile, ...args, '-c', file], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

t.test('a killed sidecar: its run is told of as interrupted, by the next one, once', { timeout: 90_000 }, async (t) => {
  const { told, url } = await receiver(t)
  const directory = await scratchDirectory(t)
  const program = join(directory, 'hang')
  await writeFile(program, '#!/bin/sh\nexec sleep 61237\n')
  await chmod(program, 0o755)
  const hooks = [{ name: 'hang', when: 'before', jobs: ['dump'], command: [program], timeout: '1h' }]
  const { directory: home, text } = await place(t, url, { hooks })
  const hanging = async () => (await processes()).filter(({ command }) => command === 'sleep 61237')
  t.teardown(async () => {
    for (const { pid } of await hanging()) process.kill(pid, 'SIGKILL')
  })
  const first = await serve(home, text)
  t.equal((await first.request('/api/admin/backup', {})).status, 202)
  await until('the start', () => told.length === 1)
  await until('the hook', async () => (await hanging()).length === 1)
  await first.end('SIGKILL')
  const second = await serve(home, text)
  await until('the end', () => told.length === 2)
  await second.end()
  const third = await serve(home, text)
  t.equal((await third.request('/api/admin/verify', { level: 'artifact' })).status, 202)
  await until('another run', () => told.length === 4)
  t.match(await (await third.request('/api/runs')).json(), { runs: [{ job: 'verify' }, { job: 'dump', hooks: [] }] })
  await third.end()
  t.same(told.slice(0, 3), ['start running', 'failure failed interrupted', 'start running'])
})

t.test('a shutdown is told of before the end, and a hook around it changes nothing', { timeout: 60_000 }, async (t) => {
  const { told, bodies, url } = await receiver(t)
  const home = await scratchDirectory(t)
  const program = join(home, 'hang')
  await writeFile(program, '#!/bin/sh\n[ "$LIFEBOAT_WHEN" = after ] || exec sleep 61238\n')
  await chmod(program, 0o755)
  const both = ['before', 'after'].map((when) => ({ name: when, when, jobs: ['dump'], command: [program] }))
  const { directory, text } = await place(t, url, { hooks: both })
  const served = await serve(directory, text)
  t.equal((await served.request('/api/admin/backup', {})).status, 202)
  await until('the start', () => told.length === 1)
  await served.end()
  t.same(told, ['start running', 'failure failed interrupted'])
  t.match(bodies.at(-1), {
    hooks: [
      { name: 'before', outcome: 'failed' },
      { name: 'after', outcome: 'succeeded' },
    ],
  })
  t.notMatch(JSON.stringify(served.lines), 'secret-path')
  t.notOk((await processes()).some(({ command }) => command === 'sleep 61238'))
})

t.test('a command tells of its run, and ends with its own exit code where nobody listens', async (t) => {
  const { told, url } = await receiver(t)
  const home = await scratchDirectory(t)
  const [program, seen] = [join(home, 'list'), join(home, 'seen')]
  // A hook that asks lifeboat itself, with all that its environment tells of the run.
  await writeFile(
    program,
    `#!/bin/sh\n"${process.execPath}" "${mainFile}" list --json -c "$1" > "${seen}" 2>&1\necho "$LIFEBOAT_FAILURE_CODE" >> "${seen}"\nexit 7\n`,
  )
  await chmod(program, 0o755)
  const configured = async (to: string) => {
    const file = join(home, 'lifeboat.yaml')
    const hooks = [{ name: 'ask', command: [program, file] }]
    await writeFile(file, (await place(t, to, { hooks })).text, { mode: 0o600 })
    return file
  }
  const heard = await lifeboat(await configured(url), 'backup')
  t.equal(heard.code, 1)
  t.match(heard.err, /warning: hook ask failed: list exited with status 7/)
  t.same(told, ['start running', 'failure failed server-unreachable'])
  t.match(await readFile(seen, 'utf8'), /server-unreachable\n$/)
  t.notMatch(await readFile(seen, 'utf8'), 'is not a variable of the configuration')

  const unheard = await lifeboat(await configured('http://127.0.0.1:1/secret-path'), 'backup')
  t.equal(unheard.code, 1, 'that of the failed backup')
  t.notMatch(unheard.err, /unsettled|secret-path/)
})

t.test('of several processes one tells of a verdict', async (t) => {
  const directory = await scratchDirectory(t)
  const options: HistoryOptions = { file: join(directory, 'lifeboat.db'), clock: systemClock, log: memoryLog().log }
  const { job, calls } = puppet()
  const [busy, other] = ['busy', 'other'].map(() => {
    const store = new History(options)
    const runner = new Runner({ jobs: [job], schedules: [], history: store, clock: systemClock, log: memoryLog().log })
    const verdicts: string[] = []
    const seen: string[] = []
    runner.onChange(({ id, state, finishedAt }, isOurs) => {
      if (finishedAt === null) return
      seen.push(id)
      if (isOurs) verdicts.push(`${id} ${state}`)
    })
    t.teardown(async () => {
      await runner.stop()
      store.close()
    })
    return { runner, verdicts, seen }
  }) as [{ runner: Runner; verdicts: string[]; seen: string[] }, { runner: Runner; verdicts: string[]; seen: string[] }]
  const trigger = (database: string) =>
    busy.runner.trigger({ job: 'dump', params: { database }, trigger: 'api', requestedBy: null })
  const [running, queued] = [trigger('a'), trigger('b')]
  await until('the first', () => calls.length === 1)
  other.runner.cancel(queued.id)
  calls[0]?.succeed()
  await until('both processes have seen it', () => busy.seen.includes(queued.id))
  t.same(other.verdicts, [`${queued.id} cancelled`])
  t.same(busy.verdicts, [`${running.id} succeeded`])
})
