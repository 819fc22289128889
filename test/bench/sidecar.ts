import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Of Linux, whatever its own timer does. */
const ticksPerSecond = 100

export const benchToken = 'lb_bench'
export const benchTokenHash = createHash('sha256').update(benchToken).digest('hex')

/** A sidecar in a process of its own, started as users start it. */
export interface Sidecar {
  readonly url: string
  /** Seconds from the start of the process to the first scrape that tells of every repository. */
  readonly startSeconds: number
  rssBytes(): Promise<number>
  /** The most that it ever had resident. */
  peakBytes(): Promise<number>
  /** CPU time so far, seconds: its own, and that of its children that have ended. */
  cpuSeconds(): Promise<{ readonly own: number; readonly children: number }>
  /** Triggers a run and waits for its end. */
  run(kind: 'backup' | 'verify', body: object): Promise<void>
  stop(): Promise<void>
}

export async function startSidecar(
  directory: string,
  configText: string,
  port: number,
  collector = 'repository:local',
): Promise<Sidecar> {
  const file = join(directory, 'lifeboat.yaml')
  await writeFile(file, configText)
  const main = join(import.meta.dirname, '..', '..', 'dist', 'main.js')
  const started = performance.now()
  const child = spawn(
    process.execPath,
    ['--max-semi-space-size=2', '--max-old-space-size=128', '--optimize-for-size', main, 'serve', '--config', file],
    { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, MALLOC_ARENA_MAX: '1' } },
  )
  const url = `http://127.0.0.1:${port}`
  const exited = new Promise<never>((_, reject) =>
    child.once('exit', (code) => reject(new Error(`the sidecar ended with ${code}`))),
  )
  exited.catch(() => {})
  await Promise.race([firstCompleteScrape(url, collector), exited])
  const startSeconds = (performance.now() - started) / 1000
  const status = async (field: string) => {
    const text = await readFile(`/proc/${child.pid}/status`, 'utf8')
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1]) * 1024
  }
  return {
    url,
    startSeconds,
    rssBytes: () => status('VmRSS'),
    peakBytes: () => status('VmHWM'),
    cpuSeconds: async () => {
      const text = await readFile(`/proc/${child.pid}/stat`, 'utf8')
      // From the state on, which follows the name in parentheses: utime, stime, cutime and cstime are the 12th to the 15th.
      const [utime = 0, stime = 0, cutime = 0, cstime = 0] = text
        .slice(text.lastIndexOf(')') + 2)
        .split(' ')
        .slice(11, 15)
        .map((ticks) => Number(ticks) / ticksPerSecond)
      return { own: utime + stime, children: cutime + cstime }
    },
    run: (kind, body) => run(url, kind, body),
    stop: async () => {
      child.kill('SIGTERM')
      await exited.catch(() => {})
    },
  }
}

async function firstCompleteScrape(url: string, collector: string): Promise<void> {
  for (;;) {
    const text = await fetch(`${url}/metrics`).then(
      (answer) => answer.text(),
      () => '',
    )
    if (
      text
        .split('\n')
        .some((line) => line.startsWith('lifeboat_collector_success{') && line.endsWith(`collector="${collector}"} 1`))
    )
      return
    await delay(10)
  }
}

async function run(url: string, kind: 'backup' | 'verify', body: object): Promise<void> {
  const headers = { authorization: `Bearer ${benchToken}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/api/admin/${kind}`, { method: 'POST', headers, body: JSON.stringify(body) })
  const { id } = (await answer.json()) as { id: string }
  for (;;) {
    const { state, failure } = (await (await fetch(`${url}/api/runs/${id}`, { headers })).json()) as {
      state: string
      failure: unknown
    }
    if (state === 'succeeded') return
    if (state === 'failed' || state === 'cancelled') throw new Error(`${kind} ${state}: ${JSON.stringify(failure)}`)
    await delay(50)
  }
}
