import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { App } from './instance.ts'
import { HttpError } from './problem.ts'

/** Collects the methods of every path that is registered from now on. */
export function collectMethods(app: App): ReadonlyMap<string, ReadonlySet<string>> {
  const methods = new Map<string, Set<string>>()
  app.addHook('onRoute', (route: RouteOptions) => {
    const known = methods.get(route.url) ?? new Set()
    for (const method of [route.method].flat()) known.add(method)
    methods.set(route.url, known)
  })
  return methods
}

/**
 * Answers the other methods of each known path: 405 with Allow, as RFC 9110 section 15.5.6 asks for, and OPTIONS with the
 * same list. Without this they would be 404, and a client would look for the fault in the path. Call it after all routes.
 */
export function refuseOtherMethods(app: App, methods: ReadonlyMap<string, ReadonlySet<string>>): void {
  for (const [url, known] of [...methods]) {
    const others = app.supportedMethods.filter((method) => !known.has(method))
    const allow = [...known, 'OPTIONS'].toSorted().join(', ')
    // In onRequest: a body that would be refused anyway must not be read, nor complained about.
    const refuse = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      reply.header('allow', allow)
      if (request.method === 'OPTIONS') {
        await reply.code(204).send()
        return
      }
      throw new HttpError('method-not-allowed', `${request.method} is not a method of this path`, `use one of ${allow}`)
    }
    app.route({
      method: others,
      url,
      config: { access: 'open' },
      schema: { hide: true },
      onRequest: refuse,
      handler: refuse,
    })
  }
}
