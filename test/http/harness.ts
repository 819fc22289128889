import type { FastifyInstance, InjectOptions } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import Schema from 'typebox/schema'
import type { TokenConfig } from '../../src/config/validated.ts'
import { defaultLimits, type HttpDependencies, type HttpLimits } from '../../src/http/ports.ts'
import { createHttpServer } from '../../src/http/server.ts'
import { hashToken } from '../../src/http/tokens.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import { History } from '../../src/runner/history.ts'
import type { Job, JobContext, JobName, JobParams } from '../../src/runner/job.ts'
import { Runner } from '../../src/runner/runner.ts'
import {
  at,
  backup,
  catalogOf,
  collectorState,
  proof,
  repositoryState,
  retention,
  serverState,
} from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'

/** A job whose runs end when the test says so. */
export class GatedJob implements Job {
  readonly name: JobName
  readonly lane: string
  readonly timeoutSeconds = 3600
  readonly started: {
    readonly params: JobParams
    readonly context: JobContext
    readonly finish: (error?: Error) => void
  }[] = []
  #waiting: (() => void)[] = []

  constructor(name: JobName, lane: string) {
    this.name = name
    this.lane = lane
  }

  async run(params: JobParams, context: JobContext): Promise<void> {
    const gate = Promise.withResolvers<void>()
    context.signal.addEventListener('abort', () => gate.reject(context.signal.reason))
    const finish = (error?: Error) => (error ? gate.reject(error) : gate.resolve())
    this.started.push({ params, context, finish })
    for (const wake of this.#waiting.splice(0)) wake()
    await gate.promise
  }

  /** The run number `index`, as soon as it has started. */
  async at(index: number) {
    for (;;) {
      const run = this.started[index]
      if (run) return run
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }
}

export const secrets = { viewer: 'lb_viewer-secret', operator: 'lb_operator-secret', admin: 'lb_admin-secret' } as const

export const tokens: readonly TokenConfig[] = (['viewer', 'operator', 'admin'] as const).map((role) => ({
  name: `the ${role}`,
  role,
  sha256: hashToken(secrets[role]),
}))

export const proven = backup(0, { id: '20260301T000000Z-dump-aaaaaa' })
export const newer = backup(300, { id: '20260301T050000Z-dump-bbbbbb', manifestChecksum: 'd'.repeat(64) })

/** One database, two dumps in `local` (the older one proven), nothing in `offsite`. */
export function smallCatalog(): Catalog {
  return catalogOf({
    server: serverState(['app']),
    repositories: [
      {
        ...repositoryState(
          'local',
          [proven, newer],
          [proof(proven, 60, { artifact: 'pass', restore: 'pass', data: 'pass' })],
        ),
        unusable: [{ id: '20260301T060000Z-dump-cccccc', state: 'in-progress' }],
      },
      repositoryState('offsite', []),
    ],
    collectors: [collectorState('server'), collectorState('repository:local'), collectorState('repository:offsite')],
  })
}

export interface Harness {
  readonly app: FastifyInstance
  readonly clock: FakeClock
  readonly runner: Runner
  readonly dump: GatedJob
  readonly verify: GatedJob
  readonly expire: GatedJob
  /** Every line that was logged. */
  readonly log: string[]
  /** Injects a request and checks that its answer is one that the OpenAPI document describes. */
  readonly call: (request: InjectOptions) => Promise<Answer>
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
  /** The body, parsed. */
  readonly json: <T = Record<string, unknown>>() => T
}

/** The server with a real runner, whose history is a file, on a clock that the test moves. */
export async function startHttp(
  t: Test,
  fields: Partial<HttpDependencies> = {},
  limits: Partial<HttpLimits> = {},
): Promise<Harness> {
  const clock = new FakeClock(at(600))
  const log: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void log.push(line) })
  const history = new History({ file: `${t.testdir()}/state.sqlite`, clock, log: logger })
  const dump = new GatedJob('dump', 'backup')
  const verify = new GatedJob('verify', 'verify')
  const expire = new GatedJob('expire', 'expire')
  const restore = new GatedJob('restore', 'restore')
  const full = new GatedJob('full', 'backup')
  const runner = new Runner({ jobs: [dump, verify, expire, full, restore], schedules: [], history, clock, log: logger })
  await runner.start()
  const app = await createHttpServer(
    {
      version: '1.2.3',
      clock,
      log: logger,
      tokens: [],
      cluster: 'prod',
      catalog: smallCatalog,
      metrics: () => ({ contentType: 'text/plain; version=0.0.4; charset=utf-8', body: 'up 1\n' }),
      runner,
      alertDrill: null,
      backupDetails: async () => [],
      policy: { rpoSeconds: 3600, rtoSeconds: 14_400, dumpMaxAgeSeconds: 90_000, verificationMaxAgeSeconds: null },
      retention: retention(),
      growth: { of: () => null },
      planRecoveries: () => [],
      previewWal: async () => null,
      walWork: () => ({ shipping: null, stream: null }),
      leases: () => [],
      ...fields,
    },
    { ...defaultLimits, ...limits },
  )
  t.teardown(async () => {
    await app.close()
    await runner.stop()
    history.close()
  })
  const document = JSON.parse((await app.inject('/openapi.json')).body) as OpenApi
  const call = async (request: InjectOptions): Promise<Answer> => {
    const response = await app.inject(request)
    const answer: Answer = {
      status: response.statusCode,
      headers: response.headers,
      text: response.body,
      json: <T>() => JSON.parse(response.body) as T,
    }
    describedBy(t, document, request, answer)
    return answer
  }
  return { app, clock, runner, dump, verify, expire, log, call }
}

export interface OpenApi {
  readonly openapi: string
  readonly info: { readonly version: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, object>>
    readonly securitySchemes: Readonly<Record<string, unknown>>
  }
}

export interface Operation {
  readonly summary?: string
  readonly tags?: readonly string[]
  readonly security?: readonly unknown[]
  readonly requestBody?: { readonly required: boolean; readonly content: Record<string, { schema: object }> }
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly schema: object }[]
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Record<string, { schema: object }> }>
  >
}

/** An answer that the document does not describe, or not like this, is a fault of one of the two. */
function describedBy(t: Test, document: OpenApi, { method = 'GET', url = '' }: InjectOptions, answer: Answer): void {
  const path = (typeof url === 'string' ? url : (url.pathname ?? '')).split('?', 1)[0] ?? ''
  const template = Object.keys(document.paths).find((known) =>
    new RegExp(`^${known.replace(/\{[^}]+\}/g, '[^/]+')}$`).test(path),
  )
  const operation = template === undefined ? undefined : document.paths[template]?.[method.toLowerCase()]
  if (operation === undefined) return
  const mediaType = String(answer.headers['content-type']).split(';', 1)[0] ?? ''
  const content = (operation.responses[answer.status] ?? operation.responses.default)?.content?.[mediaType]
  if (content === undefined) {
    t.fail(`${method} ${template} does not describe ${answer.status} ${mediaType}`)
    return
  }
  const value = mediaType.endsWith('json') ? answer.json() : answer.text
  const [fits, faults] = Schema.Errors(inlined(document, content.schema) as Record<string, unknown>, value)
  t.ok(fits, `${method} ${template} answers as described`, { faults })
}

function inlined(document: OpenApi, schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map((part) => inlined(document, part))
  if (typeof schema !== 'object' || schema === null) return schema
  if ('$ref' in schema) {
    return inlined(document, document.components.schemas[String(schema.$ref).replace('#/components/schemas/', '')])
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, inlined(document, value)]))
}
