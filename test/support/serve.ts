import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Agent, fetch, type Response } from 'undici'
import { mainFile } from './sidecar.ts'

const secret = 'lb_serve'

export const serveTokens = [
  { name: 'test', role: 'admin', sha256: createHash('sha256').update(secret).digest('hex') },
] as const

export interface Served {
  readonly url: string
  readonly child: ChildProcess
  /** What it has logged. */
  readonly lines: readonly Record<string, unknown>[]
  request(path: string, body?: object, method?: string): Promise<Response>
  /** Sends a signal and waits for its end. */
  end(signal?: NodeJS.Signals): Promise<void>
  /** A field of /proc/<pid>/status, bytes. */
  status(field: 'VmRSS' | 'VmHWM'): Promise<number>
}

export interface ServeOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly onSpawn?: (child: ChildProcess) => void
}

/**
 * The real `lifeboat serve` in a process of its own, on a configuration whose `auth.tokens` are `serveTokens`. Resolves
 * when it is up; rejects with what it said when it ends before.
 */
export async function serve(directory: string, yaml: string, options: ServeOptions = {}): Promise<Served> {
  const file = join(directory, 'lifeboat.yaml')
  await writeFile(file, yaml, { mode: 0o600 })
  const child = spawn(process.execPath, [mainFile, 'serve', '-c', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
  })
  const exited = once(child, 'exit')
  options.onSpawn?.(child)
  // Fewer than one address may have: the server would take the idle ones away.
  const dispatcher = new Agent({ connections: 80, pipelining: 1 })
  const lines: Record<string, unknown>[] = []
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString()}`.slice(-4096)
  })
  const url = await new Promise<string>((resolve, reject) => {
    if (child.stdout === null) return reject(new Error('no stdout'))
    createInterface(child.stdout).on('line', (line) => {
      const parsed = JSON.parse(line) as Record<string, unknown>
      lines.push(parsed)
      if (parsed.msg === 'lifeboat is up') resolve(String(parsed.url))
    })
    void exited.then(() => reject(new Error(`lifeboat serve ended: ${said}${JSON.stringify(lines.slice(-3))}`)))
  })
  return {
    url,
    child,
    lines,
    request: (path, body, method = body === undefined ? 'GET' : 'POST') =>
      fetch(`${url}${path}`, {
        method,
        dispatcher,
        headers: {
          authorization: `Bearer ${secret}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    end: async (signal = 'SIGTERM') => {
      child.kill(signal)
      if (child.exitCode === null && child.signalCode === null) await exited
      await dispatcher.destroy()
    },
    status: async (field) => {
      const text = await readFile(`/proc/${child.pid}/status`, 'utf8')
      return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1]) * 1024
    },
  }
}
