import swagger from '@fastify/swagger'
import { Type } from 'typebox'
import type { App } from './instance.ts'
import { namedSchemas } from './schemas.ts'

interface Operation {
  requestBody?: { required: boolean }
}

/**
 * Describes the routes that are registered from now on, and serves the description (OpenAPI 3.1) at /openapi.json. It is
 * open: it says no more than the source does.
 */
export async function registerOpenApi(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Lifeboat',
        version,
        description:
          'Keeps a PostgreSQL cluster recoverable, and proves it. Errors are problem details (RFC 9457) with a stable `code`. ' +
          'Without any token configured the reads are open and everything that changes something is off.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } as { name: string },
      },
      tags: [
        { name: 'operations', description: 'For people, probes and Prometheus; always open' },
        { name: 'backups', description: 'What there is, and what was proven' },
        { name: 'wal', description: 'How little would be lost' },
        { name: 'runs', description: 'What is done, was done and will be done' },
        { name: 'admin', description: 'Starting and stopping work' },
      ],
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description:
              'Roles: viewer (reads), operator (backup, verify, cancel), admin. `lifeboat token` makes a token.',
          },
        },
      },
    },
    refResolver: { buildLocalReference: (schema) => schema.$id as string },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject
      // Whatever a body can say has a default, so none is required; the plugin takes every body for required.
      for (const path of Object.values(document.openapiObject.paths ?? {})) {
        for (const operation of Object.values(path ?? {}) as Operation[]) {
          if (operation.requestBody) operation.requestBody.required = false
        }
      }
      return document.openapiObject
    },
  })
  for (const schema of namedSchemas) app.addSchema(schema)
  app.get(
    '/openapi.json',
    {
      config: { access: 'open' },
      schema: {
        tags: ['operations'],
        summary: 'This description',
        response: { 200: Type.Unsafe<string>({ type: 'object', description: 'OpenAPI 3.1' }) },
      },
    },
    async (_request, reply) => reply.type('application/json').send(JSON.stringify(app.swagger())),
  )
}
