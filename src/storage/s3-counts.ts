import { LifeboatError } from '../domain/errors.ts'
import { nameOf, statusOf } from './s3-failures.ts'

/** How often an operation of S3 was sent, retries included, and how often that failed. */
export interface RequestCount {
  readonly operation: string
  readonly requests: number
  readonly errors: number
}

/** Counts requests by operation: the bill of a bucket is made of them. */
export class S3Counts {
  readonly #counts = new Map<string, { requests: number; errors: number }>()

  /** Sends one request, and counts it. `command`: its name as the SDK has it, e.g. `GetObjectCommand`. */
  async count<Output>(command: string, send: () => Promise<Output>): Promise<Output> {
    const operation = command.replace(/Command$/, '')
    const count = this.#counts.get(operation) ?? { requests: 0, errors: 0 }
    this.#counts.set(operation, count)
    count.requests += 1
    try {
      return await send()
    } catch (error) {
      if (isFailure(error)) count.errors += 1
      throw error
    }
  }

  /** By operation, in the order of their names. */
  all(): readonly RequestCount[] {
    return [...this.#counts]
      .map(([operation, count]) => ({ operation, ...count }))
      .sort((a, b) => (a.operation < b.operation ? -1 : 1))
  }
}

/** "Not there" and "taken" are answers; a request that somebody called off has not failed, one that passed its deadline has. */
function isFailure(error: unknown): boolean {
  if (error instanceof Error && error.name === 'AbortError') {
    return error.cause instanceof LifeboatError && error.cause.code === 'storage-unreachable'
  }
  const status = statusOf(error)
  return !(status === 412 || (status === 404 && !/^NoSuch(?:Bucket|Upload)$/.test(nameOf(error))))
}
