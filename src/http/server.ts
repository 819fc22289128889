import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, {
  type ConnectionError,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { LifeboatError } from '../domain/errors.ts'
import { authorise } from './auth.ts'
import { createListing } from './backup-list.ts'
import { limitConnections } from './connections.ts'
import { securityHeaders } from './headers.ts'
import type { App } from './instance.ts'
import { collectMethods, refuseOtherMethods } from './methods.ts'
import { registerOpenApi } from './openapi.ts'
import { defaultLimits, type HttpDependencies, type HttpLimits } from './ports.ts'
import { HttpError, type HttpErrorCode, problem, problemMediaType, sendProblem, toProblem } from './problem.ts'
import { adminRoutes } from './routes/admin.ts'
import { alertRoutes } from './routes/alerts.ts'
import { backupRoutes } from './routes/backups.ts'
import { operationsRoutes } from './routes/operations.ts'
import { recoverabilityRoutes } from './routes/recoverability.ts'
import { restoreRoutes } from './routes/restore.ts'
import { runEventRoutes } from './routes/run-events.ts'
import { runRoutes } from './routes/runs.ts'
import { walRoutes } from './routes/wal.ts'

/**
 * Builds the HTTP server: the page, health, `/metrics`, the reads and the triggers. It is ready for `inject` and
 * `listen`, but does not listen; whoever calls this decides where, and closes it. Closing ends the event streams.
 *
 * Everything but the details of one backup is answered from memory, synchronously.
 */
export async function createHttpServer(
  deps: HttpDependencies,
  limits: HttpLimits = defaultLimits,
): Promise<FastifyInstance> {
  const app = bareServer(deps, limits)
  readJsonOnly(app)
  guard(app, deps)
  const methods = collectMethods(app)
  await registerOpenApi(app, deps.version)
  const listing = createListing()
  operationsRoutes(app, deps, listing)
  backupRoutes(app, deps, listing, limits)
  walRoutes(app, deps)
  recoverabilityRoutes(app, deps)
  runRoutes(app, deps)
  runEventRoutes(app, deps, limits)
  adminRoutes(app, deps, limits)
  restoreRoutes(app, deps)
  alertRoutes(app, deps)
  refuseOtherMethods(app, methods)
  await app.ready()
  return app as unknown as FastifyInstance
}

function bareServer(deps: HttpDependencies, limits: HttpLimits): App {
  const app = Fastify({
    loggerInstance: deps.log as FastifyBaseLogger,
    // One line per scrape would be all that the log holds; `guard` logs what matters.
    logController: new LogController({ disableRequestLogging: true }),
    http: { headersTimeout: limits.headersTimeout, connectionsCheckingInterval: limits.checkInterval },
    requestTimeout: limits.requestTimeout,
    connectionTimeout: limits.idleTimeout,
    keepAliveTimeout: limits.keepAliveTimeout,
    maxRequestsPerSocket: limits.requestsPerConnection,
    bodyLimit: limits.bodyBytes,
    routerOptions: { maxParamLength: 100 },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: true, allErrors: true } },
    frameworkErrors: (error, request, reply) => {
      sendProblem(reply.headers(securityHeaders), toProblem(error, pathOf(request.url), request.id))
    },
    clientErrorHandler: answerBrokenRequest,
  }).withTypeProvider<TypeBoxTypeProvider>()
  limitConnections(app.server, limits)
  // Not the default serialiser: it would leave out, without a word, whatever a response schema does not name.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  return app
}

/** Bodies are JSON or nothing at all; `__proto__` and `constructor.prototype` in them are refused. */
function readJsonOnly(app: App): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    // Every body is optional, and some clients name its type even when they send none.
    if (body === '') done(null, undefined)
    // It answers by way of `done`, never by a promise.
    else void parse(request, body as string, done)
  })
  app.addHook('preValidation', async (request) => {
    // A missing body is an empty one; `null` is not, and will not fit.
    if (request.body === undefined) request.body = {}
    // A query string is all text and nothing is coerced; the only numbers in it are read here, strictly.
    const query = request.query as Record<string, unknown>
    for (const name of ['limit', 'timeline']) {
      const text = query[name]
      if (typeof text === 'string' && /^[0-9]{1,10}$/.test(text)) query[name] = Number(text)
    }
  })
}

/** Headers, authentication, errors and the log, for every route. */
function guard(app: App, deps: HttpDependencies): void {
  app.addHook('onRoute', (route) => {
    if (route.config?.access === undefined) throw new TypeError(`${route.url} does not say who may use it`)
  })
  app.decorateRequest('requestedBy', null)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(securityHeaders)
    // Here and not in a handler, which would run only when the body has been received.
    if (request.is404)
      throw new LifeboatError('not-found', 'there is nothing at this path', { hint: 'see /openapi.json' })
  })
  app.addHook('onRequest', authorise(deps.tokens))
  app.addHook('onResponse', async (request, reply) => {
    const { config, url } = request.routeOptions
    const changes = config.access === 'operator' || config.access === 'admin'
    const line = {
      method: request.method,
      route: url,
      status: reply.statusCode,
      by: request.requestedBy,
      ip: request.ip,
    }
    request.log[changes ? 'info' : 'debug'](line, 'request answered')
  })
  app.setErrorHandler((error, request, reply) => {
    if (hasUnreadBody(request)) reply.header('connection', 'close')
    const body = toProblem(error, pathOf(request.url), request.id)
    if (body.status >= 500 && !(error instanceof HttpError)) request.log.error({ err: error }, 'request failed')
    return sendProblem(reply, body)
  })
}

/** True while the client still sends a body that was refused: the connection must not stay open to receive it. */
function hasUnreadBody({ raw }: FastifyRequest): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = raw.headers
  return (length !== '0' || encoding !== undefined) && !raw.complete
}

function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? url
}

/**
 * Answers what Node could not even read as a request: too slow, a header too large, or not HTTP at all.
 * https://nodejs.org/api/http.html#event-clienterror
 */
function answerBrokenRequest(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [code, detail]: [HttpErrorCode | 'usage-invalid', string] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['request-timeout', 'the request did not arrive in time']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['header-too-large', 'the header of the request is too large']
        : ['usage-invalid', 'this is not an http request']
  const body = problem('', code, detail)
  const text = JSON.stringify(body)
  const head = [
    `HTTP/1.1 ${body.status} ${STATUS_CODES[body.status]}`,
    `content-type: ${problemMediaType}`,
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`)
}
