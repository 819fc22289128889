import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply } from 'fastify'
import { type ErrorCode, errorCodes, LifeboatError } from '../domain/errors.ts'

/** Codes of what only HTTP can get wrong; as stable as those of `errorCodes`. */
export const httpErrorCodes = {
  'body-malformed': 400,
  'method-not-allowed': 405,
  'request-timeout': 408,
  'body-too-large': 413,
  'media-type-unsupported': 415,
  'header-too-large': 431,
  'not-ready': 503,
  'too-busy': 503,
} as const

export type HttpErrorCode = keyof typeof httpErrorCodes

/** A failure that only HTTP knows. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly code: HttpErrorCode
  readonly hint: string | undefined

  constructor(code: HttpErrorCode, message: string, hint?: string) {
    super(message)
    this.code = code
    this.hint = hint
  }
}

/** One fault of a request. `pointer` is a JSON pointer (RFC 6901) into the part named by `in`. */
export interface RequestFault {
  readonly in: 'body' | 'query' | 'path' | 'header'
  readonly pointer: string
  readonly detail: string
}

/** The body of every answer that is an error (RFC 9457). */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly instance: string
  readonly code: ErrorCode | HttpErrorCode
  readonly hint?: string
  readonly problems?: readonly RequestFault[]
  /** With `conflict`: the run that stands in the way. */
  readonly runId?: string
}

export const problemMediaType = 'application/problem+json'

/** More faults than a person would read are not listed: a body may hold thousands. */
const maxFaults = 20

/** Builds the answer to a failure. `instance` is the path of the request, without its query, which might hold a secret. */
export function problem(
  instance: string,
  code: ErrorCode | HttpErrorCode,
  detail: string,
  more: Pick<Problem, 'hint' | 'problems' | 'runId'> = {},
): Problem {
  const status = code in errorCodes ? errorCodes[code as ErrorCode].http : httpErrorCodes[code as HttpErrorCode]
  return {
    type: `urn:problem-type:lifeboat:${code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail,
    instance,
    code,
    ...more,
  }
}

/** Anything that a route, a hook or Fastify itself may throw, as a problem. Unknown errors do not show their message. */
export function toProblem(error: unknown, instance: string, requestId: string): Problem {
  if (error instanceof LifeboatError) {
    const runId = error.details?.runId
    return problem(instance, error.code, error.message, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(typeof runId === 'string' ? { runId } : {}),
    })
  }
  if (error instanceof HttpError) {
    return problem(instance, error.code, error.message, error.hint === undefined ? {} : { hint: error.hint })
  }
  return fromFastify(error as Partial<FastifyError>, instance, requestId)
}

function fromFastify(error: Partial<FastifyError>, instance: string, requestId: string): Problem {
  if (error.validation) {
    const faults = error.validation.map((fault) => toFault(fault, error.validationContext))
    return problem(instance, 'usage-invalid', 'the request does not fit what this route takes', {
      hint: 'see /openapi.json for what it takes',
      problems: faults.slice(0, maxFaults),
    })
  }
  const { code = '' } = error
  switch (code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return problem(instance, 'media-type-unsupported', 'only JSON bodies are read', {
        hint: 'send content-type: application/json',
      })
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return problem(instance, 'body-too-large', 'the body is larger than any that this API takes')
    case 'FST_ERR_BAD_URL':
      return problem(instance, 'usage-invalid', 'the path is not a valid percent-encoded text')
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return problem(instance, 'usage-invalid', 'a part of the path is longer than any id')
    case 'FST_ERR_HANDLER_TIMEOUT':
      return problem(instance, 'too-busy', 'reading the repository took too long', {
        hint: 'see whether the repository is slow or hangs: its collector on / tells',
      })
  }
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return problem(instance, 'body-malformed', 'the body is not the JSON that its headers promise')
  }
  return problem(instance, 'unexpected', 'an unexpected error kept this from being answered', {
    hint: `look for ${requestId} in the log`,
  })
}

type SchemaFault = NonNullable<FastifyError['validation']>[number]

function toFault(fault: SchemaFault, context: FastifyError['validationContext']): RequestFault {
  const places = { body: 'body', querystring: 'query', params: 'path', headers: 'header' } as const
  const place = places[(context ?? 'body') as keyof typeof places]
  const { additionalProperty, allowedValues } = fault.params
  if (typeof additionalProperty === 'string') {
    return { in: place, pointer: `${fault.instancePath}/${escapePointer(additionalProperty)}`, detail: 'is not known' }
  }
  if (Array.isArray(allowedValues)) {
    return { in: place, pointer: fault.instancePath, detail: `must be one of ${allowedValues.join(', ')}` }
  }
  return { in: place, pointer: fault.instancePath, detail: fault.message ?? 'is not valid' }
}

function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}

/** Sends a problem. It is serialised here, so that no response schema can drop a member of it. */
export function sendProblem(reply: FastifyReply, body: Problem): FastifyReply {
  if (body.status === 503 || body.status === 429) reply.header('retry-after', '5')
  if (body.runId !== undefined) reply.header('location', `/api/runs/${encodeURIComponent(body.runId)}`)
  return reply.code(body.status).type(problemMediaType).send(JSON.stringify(body))
}
