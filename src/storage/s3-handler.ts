import type { S3 } from '@aws-sdk/client-s3'
import type { Apart } from './s3-apart.ts'

/** How the SDK is to send a request. */
export interface SendOptions {
  readonly abortSignal: AbortSignal
  /** Where much comes back: how much at most, bytes. It is then received apart (see Apart). */
  readonly mostBytes?: number
}

/** A signed request as the SDK has it. */
interface Signed {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly method: string
  readonly path: string
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>
  readonly headers: Readonly<Record<string, string>>
}

/** Has a client send what is to be received apart that way. It signs those requests, and reads their answers, as all others. */
export function sendApart(client: S3, apart: Apart): void {
  const { requestHandler } = client.config
  const handle = requestHandler.handle.bind(requestHandler)
  requestHandler.handle = async (request: Signed, options?: object) => {
    const { abortSignal, mostBytes }: Partial<SendOptions> = options ?? {}
    if (abortSignal === undefined || mostBytes === undefined) return handle(request, options)
    const { protocol, hostname, port, method, path, query, headers } = request
    // An address of IPv6 stands in brackets.
    const host = hostname.replace(/^\[(.*)\]$/, '$1')
    const signed = { protocol, host, port, method, path: path + queryOf(query), headers, mostBytes }
    return { response: await apart.send(signed, abortSignal) }
  }
}

function queryOf(query: Signed['query'] = {}): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    [value ?? ''].flat().map((one) => `${encodeURIComponent(name)}=${encodeURIComponent(one)}`),
  )
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}
