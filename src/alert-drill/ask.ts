import type { Agent } from 'undici'
import { type Clock, withDeadline } from '../clock.ts'
import type { AlertServer } from '../config/alert-servers.ts'
import { LifeboatError } from '../domain/errors.ts'

/** What a server answered, parsed; or why there is no answer, and whether that can pass. */
export type Answer =
  | { readonly ok: true; readonly body: unknown }
  | { readonly ok: false; readonly canPass: boolean; readonly why: string; readonly hint: string }

/** Asks one Prometheus or Alertmanager. Never throws but the signal's reason. */
export interface Asker {
  /** For messages: where it is. */
  readonly url: string
  ask(path: string, signal: AbortSignal, post?: unknown): Promise<Answer>
  close(): Promise<void>
}

/** The rules of a large Prometheus are a few megabytes. */
const mostBytes = 64 * 1024 * 1024
const passingStatus = new Set([408, 425, 429])

/** @throws LifeboatError `config-invalid` when a file with headers or authorities cannot be used */
export async function createAsker(
  server: AlertServer,
  { clock, requestMs, userAgent }: { readonly clock: Clock; readonly requestMs: number; readonly userAgent: string },
): Promise<Asker> {
  const [headers, ca] = await Promise.all([server.headers(), server.authorities()])
  // Here, not above: most sidecars ask nobody, and it takes 4 MB.
  const { Agent, request } = await import('undici')
  const dispatcher: Agent = new Agent({ connections: 2, ...(ca === null ? {} : { connect: { ca } }) })
  const send = async (path: string, signal: AbortSignal, post: unknown): Promise<Answer> => {
    // Redirects are not followed: what is meant for one server is for no other.
    const { statusCode, body } = await request(`${server.url}${path}`, {
      dispatcher,
      signal,
      method: post === undefined ? 'GET' : 'POST',
      headers: {
        accept: 'application/json',
        'user-agent': userAgent,
        ...(post === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(post === undefined ? {} : { body: JSON.stringify(post) }),
    })
    const text = await readText(body)
    if (statusCode < 200 || statusCode > 299) return refused(statusCode)
    if (post !== undefined) return { ok: true, body: null }
    try {
      return { ok: true, body: JSON.parse(text) }
    } catch {
      return {
        ok: false,
        canPass: false,
        why: 'it answers with something that is no JSON',
        hint: 'see whether its url is right, with the path before /api',
      }
    }
  }
  return {
    url: server.url,
    async ask(path, signal, post) {
      const reason = new DOMException('late', 'TimeoutError')
      try {
        return await withDeadline(clock, { ms: requestMs, reason, signals: [signal] }, (limit) =>
          send(path, limit, post),
        )
      } catch (error) {
        signal.throwIfAborted()
        return unanswered(error, requestMs)
      }
    },
    close: () => dispatcher.destroy(),
  }
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > mostBytes) throw new LifeboatError('program-failed', `its answer has more than ${mostBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function refused(status: number): Answer {
  const hint =
    status === 401 || status === 403
      ? 'put what it wants to see, e.g. `Authorization: Bearer …`, into headersFile'
      : 'see whether its url is right, with the path before /api'
  const canPass = status >= 500 || passingStatus.has(status)
  return { ok: false, canPass, why: `it answers with ${status}`, hint: canPass ? 'look into its log' : hint }
}

function unanswered(error: unknown, requestMs: number): Answer {
  const { code, name } = error as { code?: unknown; name?: unknown }
  if (name === 'TimeoutError')
    return {
      ok: false,
      canPass: true,
      why: `it does not answer within ${requestMs / 1000} s`,
      hint: 'it hangs, or something is between the two: restart it',
    }
  if (error instanceof LifeboatError)
    return { ok: false, canPass: false, why: error.message, hint: 'look into its log' }
  const isOfTls = /CERT|SSL|TLS|SIGNED/i.test(String(code))
  return {
    ok: false,
    canPass: !isOfTls,
    why: isOfTls
      ? `its certificate is not accepted (${String(code)})`
      : `it cannot be reached (${String(code ?? name)})`,
    hint: isOfTls
      ? 'set caFile to the authority of its certificate'
      : 'see whether it runs, and whether its url is right',
  }
}
