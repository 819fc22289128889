import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { VerificationLevel } from '../domain/proof.ts'
import type { Run } from '../runner/job.ts'
import { parseSeries, type Series } from './series.ts'

/** One copy of a backup as `GET /api/backups` gives it: what the demo looks at. */
export interface ListedCopy {
  readonly repository: string
  readonly id: string
  readonly database: string | null
  readonly storedBytes: number
  readonly proven: boolean
  readonly verification: Readonly<
    Record<VerificationLevel, { readonly verdict: string; readonly cause?: string } | null>
  >
}

/** `GET /api/recoverability`: what the demo looks at. */
interface Recoverability {
  readonly repositories: readonly { readonly recoverable: boolean }[]
}

/** Talks to Lifeboat as any program outside would. */
export interface Client {
  /** Waits until `/-/ready` says yes: the first look at everything has ended. */
  ready(): Promise<void>
  /** Starts work by `POST /api/admin/<what>` and follows it to its end, whatever that is. */
  run(what: 'backup' | 'restore' | 'verify', body: object): Promise<Run>
  /** Asks until a moment can be restored from every repository: WAL is stored when it has been archived. False after 30 s. */
  recoverable(at: string): Promise<boolean>
  backups(): Promise<readonly ListedCopy[]>
  metrics(): Promise<Series>
  /** Reads `/metrics` until the condition holds: the metrics follow the work by a moment. The last look after 30 s. */
  metricsWhen(condition: (series: Series) => boolean): Promise<Series>
}

export interface ClientOptions {
  readonly url: string
  readonly token: string
  readonly clock: Clock
  readonly signal: AbortSignal
}

const patienceMs = 30_000
const pollMs = 100

export function createClient({ url, token, clock, signal }: ClientOptions): Client {
  const request = async (method: string, path: string, body?: object): Promise<Response> => {
    const response = await fetch(new URL(path, url), {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      body: body ? JSON.stringify(body) : null,
      signal,
    })
    if (response.ok) return response
    throw new LifeboatError('unexpected', `${method} ${path} answered ${response.status}: ${await response.text()}`)
  }
  const wait = () => clock.sleep(pollMs, signal)
  const isReady = async () => (await fetch(new URL('/-/ready', url), { signal })).ok
  const metrics = async () => parseSeries(await (await request('GET', '/metrics')).text())
  return {
    ready: async () => {
      const end = clock.monotonic() + patienceMs
      while (!(await isReady()) && clock.monotonic() < end) await wait()
    },
    run: async (what, body) => {
      const response = await request('POST', `/api/admin/${what}`, body)
      const location = response.headers.get('location') ?? ''
      let run = (await response.json()) as Run
      while (run.finishedAt === null) {
        await wait()
        run = (await (await request('GET', location)).json()) as Run
      }
      return run
    },
    recoverable: async (at) => {
      const end = clock.monotonic() + patienceMs
      const path = `/api/recoverability?at=${encodeURIComponent(at)}`
      for (;;) {
        const { repositories } = (await (await request('GET', path)).json()) as Recoverability
        if (repositories.every(({ recoverable }) => recoverable)) return true
        if (clock.monotonic() > end) return false
        await wait()
      }
    },
    backups: async () => {
      const page = (await (await request('GET', '/api/backups')).json()) as { backups: readonly ListedCopy[] }
      return page.backups
    },
    metrics,
    metricsWhen: async (condition) => {
      const end = clock.monotonic() + patienceMs
      for (;;) {
        const series = await metrics()
        if (condition(series) || clock.monotonic() > end) return series
        await wait()
      }
    },
  }
}
