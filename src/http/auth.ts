import { timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Role, roles, type TokenConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { hashToken } from './tokens.ts'

/**
 * Who may use a route; each one declares it. `open`: anybody, always. `viewer`: anybody while no token is configured.
 * `operator` and `admin` change something: without tokens they are off, since nobody could be told from anybody else.
 */
export type Access = 'open' | Role

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access
  }
  interface FastifyRequest {
    /** Name of the token that the request came with; null: none was needed. */
    requestedBy: string | null
  }
}

// RFC 6750, section 2.1; the length bounds what is hashed.
const bearerPattern = /^bearer +([A-Za-z0-9._~+/-]{1,512}=*)$/i

/**
 * Finds the token that was presented. Its hash is compared in constant time with every configured one, and all of them
 * are looked at whatever is found, so that timing tells neither how much of a hash fits nor whose token it is.
 */
export function findToken(tokens: readonly TokenConfig[], presented: string): TokenConfig | null {
  const hash = Buffer.from(hashToken(presented), 'hex')
  let found: TokenConfig | null = null
  for (const token of tokens) {
    const expected = Buffer.from(token.sha256, 'hex')
    if (expected.length === hash.length && timingSafeEqual(expected, hash)) found = token
  }
  return found
}

/**
 * The hook that guards every route. Only the Authorization header counts: a token in a query string ends up in the logs
 * of every proxy, and a browser sends Basic on its own, which would open the API to forged requests from other sites.
 *
 * @throws LifeboatError `unauthenticated` (no or unknown token), `forbidden` (role too low, or no tokens configured)
 */
export function authorise(tokens: readonly TokenConfig[]) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const access = request.routeOptions.config.access ?? 'admin'
    if (access === 'open') return
    if (tokens.length === 0) {
      if (access === 'viewer') return
      throw new LifeboatError('forbidden', 'changing anything over http is off: no token is configured', {
        hint: 'make one with `lifeboat token` and put its sha256 under auth.tokens',
      })
    }
    const presented = bearerPattern.exec(request.headers.authorization ?? '')?.[1]
    const token = presented === undefined ? null : findToken(tokens, presented)
    if (token === null) {
      const reason = presented === undefined ? 'no bearer token' : 'unknown token'
      refuse(request, reply, reason, presented === undefined ? '' : ', error="invalid_token"')
      throw new LifeboatError('unauthenticated', `this route needs a bearer token: ${reason}`, {
        hint: `send "authorization: Bearer …" with a token of role ${access} or higher`,
      })
    }
    request.requestedBy = token.name
    if (roles.indexOf(token.role) < roles.indexOf(access)) {
      refuse(request, reply, 'role too low', ', error="insufficient_scope"')
      throw new LifeboatError('forbidden', `the token ${JSON.stringify(token.name)} has the role ${token.role}`, {
        hint: `use a token of role ${access} or higher`,
      })
    }
  }
}

/** Logs what was refused, never the token nor the query string, and sets the challenge (RFC 6750, section 3). */
function refuse(request: FastifyRequest, reply: FastifyReply, reason: string, parameters: string): void {
  const { method, ip } = request
  request.log.warn(
    { method, route: request.routeOptions.url, ip, token: request.requestedBy, reason },
    'request refused',
  )
  reply.header('www-authenticate', `Bearer realm="lifeboat"${parameters}`)
}
