import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fetch } from 'undici'

/** A series of an answer, with its samples as [seconds, value]. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>
  readonly points: readonly (readonly [number, number])[]
}

interface Answer {
  readonly status: string
  readonly error?: string
  readonly data?: {
    readonly result: readonly {
      readonly metric: Record<string, string>
      readonly value?: readonly [number, string]
      readonly values?: readonly (readonly [number, string])[]
    }[]
  }
}

/** A real Prometheus, on a port of 127.0.0.1 that was free. */
export interface Prometheus {
  readonly url: string
  /** Throws what Prometheus says of a query that is wrong. */
  instant(query: string, at: number): Promise<Series[]>
  range(query: string, from: number, to: number, step: number): Promise<Series[]>
  stop(): Promise<void>
}

/**
 * Starts one over an OpenMetrics text whose samples have times; it scrapes nothing. `directory` is empty, and belongs to
 * it.
 */
export async function startPrometheus(directory: string, openMetrics: string): Promise<Prometheus> {
  const text = join(directory, 'metrics.txt')
  await writeFile(text, openMetrics)
  const made = spawnSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', text, dataDirectory(directory)], {
    encoding: 'utf8',
  })
  if (made.error !== undefined) throw made.error
  if (made.status !== 0) throw new Error(`promtool: ${made.stdout}${made.stderr}`)
  return startConfigured(directory, {})
}

const dataDirectory = (directory: string) => join(directory, 'data')

/**
 * Starts one on a configuration: it scrapes, and evaluates rules. `directory` is as above, or has blocks in `data`. `more`:
 * further flags of the program.
 */
export async function startConfigured(
  directory: string,
  configuration: object,
  more: readonly string[] = [],
): Promise<Prometheus> {
  const config = join(directory, 'prometheus.yml')
  await writeFile(config, JSON.stringify(configuration))
  const child = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${dataDirectory(directory)}`,
      '--storage.tsdb.retention.time=100y',
      '--web.listen-address=127.0.0.1:0',
      // What is sent before Alertmanager is known is lost, and sent again after a minute otherwise.
      '--rules.alert.resend-delay=1s',
      ...more,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const kill = () => child.kill()
  process.once('exit', kill)
  const url = await addressOf(child)
  const ask = async (path: string, parameters: Record<string, string>): Promise<Series[]> => {
    const response = await fetch(`${url}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) })
    const answer = (await response.json()) as Answer
    if (answer.data === undefined || answer.status !== 'success')
      throw new Error(`${answer.error ?? response.status}: ${parameters.query}`)
    return answer.data.result.map(({ metric, value, values }) => ({
      labels: metric,
      points: (values ?? (value === undefined ? [] : [value])).map(([time, number]) => [time, Number(number)]),
    }))
  }
  return {
    url,
    instant: (query, at) => ask('query', { query, time: String(at) }),
    range: (query, from, to, step) =>
      ask('query_range', { query, start: String(from), end: String(to), step: String(step) }),
    stop: async () => {
      process.off('exit', kill)
      const ended = child.exitCode === null ? once(child, 'exit') : null
      kill()
      await ended
    },
  }
}

/** Where it listens, once it is ready to answer. */
async function addressOf(child: ChildProcess): Promise<string> {
  if (child.stderr === null) throw new Error('no log of Prometheus')
  const lines: string[] = []
  let address: string | null = null
  let isReady = false
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line)
    address ??= /msg="Listening on" address=(\S+)/.exec(line)?.[1] ?? null
    // In either order: they are said by different threads.
    isReady ||= line.includes('Server is ready')
    if (address !== null && isReady) {
      child.stderr.resume()
      return `http://${address}`
    }
  }
  throw new Error(`Prometheus ended: ${lines.join('\n')}`)
}
