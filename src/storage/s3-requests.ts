import { readFileSync } from 'node:fs'
import { rootCertificates } from 'node:tls'
import type { S3 } from '@aws-sdk/client-s3'
import { type Clock, withDeadline } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { stopped, throwIfStopped } from './failures.ts'
import { Apart } from './s3-apart.ts'
import { S3Counts } from './s3-counts.ts'
import { nameOf, type Passing, passingKind } from './s3-failures.ts'
import { sendApart } from './s3-handler.ts'
import { noteOperations } from './s3-operation.ts'
import type { S3Settings } from './s3-settings.ts'

/** The SHA-256 of an object of a single part, hexadecimal, in its metadata. */
export const sha256Metadata = 'sha256'

/** How many attempts a request gets, the first included. */
const mostAttempts = 5

/** The wait before the second attempt is random between nothing and this, and may be twice as long before each further one. */
const firstDelayMs: Readonly<Record<Passing, number>> = { network: 200, server: 400, damaged: 100, throttled: 1000 }
const longestDelayMs = 20_000

/** A connection that was not made by then is given up. */
const connectMs = 5_000

/** A connection on which nothing moves for so long is given up. */
const idleMs = 30_000

/** A request without a body of its own, such as a listing, must be answered by then. */
const answerMs = 20_000

/** Of a server that has not answered last time; until it does, a request gets one attempt. */
const silentMs = 5_000

/** The slowest line that a deadline allows for, bytes a millisecond (about half a megabit a second). */
const slowestRate = 64

/** Refusals of keys that others may have replaced by now. */
const mayBeRotated =
  /^(?:ExpiredToken\w*|Invalid(?:AccessKeyId|ClientTokenId|Token)|SignatureDoesNotMatch|TokenRefreshRequired)$/

/** Connections to one server at a time. */
const mostSockets = 64

export interface S3RequestOptions {
  /** Completes "cannot …" in messages, e.g. `read "a/b"`. */
  readonly doing: string
  readonly signal?: AbortSignal | undefined
  /** How much is sent, for the deadline. */
  readonly bytes?: number
  /** Default: five. */
  readonly attempts?: number
  /** Deadline of an attempt; default: long enough for `bytes` on a slow line. */
  readonly ms?: number
  /** For a request that makes something that stays: an answer that comes so soon after the signal counts, so that who stopped it knows how it ended. */
  readonly graceMs?: number
}

export interface S3RequestsOptions {
  readonly settings: S3Settings
  readonly clock: Clock
  /** 0 up to 1, for the waits. */
  readonly random?: () => number
  /** Default: half a minute. */
  readonly idleMs?: number
}

/**
 * Sends requests: each attempt under a deadline, and again, after a random wait, when its failure can pass (see
 * `passingKind`). Bodies are bytes in memory, so that they can be sent again.
 */
export class S3Requests {
  readonly #settings: S3Settings
  readonly #clock: Clock
  readonly #random: () => number
  readonly #idleMs: number
  /** Of all that was sent. */
  readonly counts = new S3Counts()
  #client: Promise<S3> | null = null
  /** The last request that got all its attempts had no answer to any: what comes after it must not wait as long. */
  #isSilent = false
  #apart: Apart | null = null
  readonly #waiting = new KeepingAlive()

  constructor(options: S3RequestsOptions) {
    this.#settings = options.settings
    this.#clock = options.clock
    this.#random = options.random ?? Math.random
    this.#idleMs = options.idleMs ?? idleMs
  }

  /**
   * Gives what `attempt` gives. `tries`: which attempt it is, from 1 on; one before may have worked without our hearing of it.
   *
   * @throws what the last attempt threw; `storage-unreachable` when it passed its deadline; why `signal` aborted
   */
  async call<Output>(
    {
      doing,
      signal,
      bytes = 0,
      attempts = this.#isSilent ? 1 : mostAttempts,
      ms = (this.#isSilent ? silentMs : answerMs) + bytes / slowestRate,
      graceMs,
    }: S3RequestOptions,
    attempt: (client: S3, stop: AbortSignal, tries: number) => Promise<Output>,
  ): Promise<Output> {
    for (let tries = 1; ; tries += 1) {
      throwIfStopped(signal)
      try {
        const reason = this.#late(doing, ms)
        const send = (signals: readonly AbortSignal[]) =>
          withDeadline(this.#clock, { ms, reason, signals }, (stop) =>
            orStopped(
              this.#made().then((client) => attempt(client, stop, tries)),
              stop,
            ),
          )
        const answer =
          signal === undefined || graceMs === undefined
            ? await send(signal === undefined ? [] : [signal])
            : await this.#withGrace(signal, graceMs, send)
        this.#isSilent = false
        return answer
      } catch (error) {
        if (signal?.aborted) throw stopped(signal)
        const kind = passingKind(error)
        this.#isSilent = kind === 'network' && (this.#isSilent || tries >= mostAttempts)
        if (mayBeRotated.test(nameOf(error))) {
          // The next attempt looks for credentials anew.
          this.#client = null
          if (tries === 1) continue
        }
        if (kind === null || tries >= attempts) throw error
        await this.wait(kind, tries, signal)
      }
    }
  }

  /** Hands on a signal so much later. */
  async #withGrace<Output>(
    signal: AbortSignal,
    ms: number,
    work: (signals: readonly AbortSignal[]) => Promise<Output>,
  ): Promise<Output> {
    const [late, over] = [new AbortController(), new AbortController()]
    const stop = (): void => {
      this.#clock.sleep(ms, over.signal).then(
        () => late.abort(signal.reason),
        () => {},
      )
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      return await work([late.signal])
    } finally {
      signal.removeEventListener('abort', stop)
      over.abort()
    }
  }

  /** Waits before the next attempt. */
  async wait(kind: Passing, tries: number, signal: AbortSignal | undefined): Promise<void> {
    const most = Math.min(longestDelayMs, firstDelayMs[kind] * 2 ** (tries - 1))
    const release = this.#waiting.hold()
    try {
      await this.#clock.sleep(this.#random() * most, signal)
    } catch {
      throwIfStopped(signal)
    } finally {
      release()
    }
  }

  /** By how much our clock was behind the server's at the last answer, milliseconds; negative: it was ahead. */
  async clockBehindMs(): Promise<number> {
    return (await this.#made()).config.systemClockOffset
  }

  #late(doing: string, ms: number): LifeboatError {
    return new LifeboatError('storage-unreachable', `cannot ${doing}: no answer within ${Math.round(ms / 1000)} s`, {
      hint: 'look at the server, the network and the proxies between',
    })
  }

  #made(): Promise<S3> {
    this.#client ??= this.#make().catch((error: unknown) => {
      this.#client = null
      throw error
    })
    return this.#client
  }

  async #make(): Promise<S3> {
    const { region, endpoint, pathStyle, keys, env } = this.#settings
    const agent = { keepAlive: true, maxSockets: mostSockets, proxyEnv: proxiesOf(env) }
    const ca = authoritiesOf(env)
    // Only here: they take 90 ms and 30 MB, also of who has no bucket.
    const [{ S3: Client }, { Agent: HttpAgent }, { Agent: HttpsAgent }] = await Promise.all([
      import('@aws-sdk/client-s3'),
      import('node:http'),
      import('node:https'),
    ])
    const client = new Client({
      ...(region === null ? {} : { region }),
      ...(endpoint === null ? {} : { endpoint }),
      ...(keys === null ? {} : { credentials: async () => ({ ...(await keys()), expiration: new Date(0) }) }),
      // For the usual chain, which is handed all of this: it would read ~/.aws only once.
      ...{ ignoreCache: true },
      forcePathStyle: pathStyle,
      // What is required is sent; trailers are refused by many servers that speak S3.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: connectMs,
        socketTimeout: this.#idleMs,
        // What is sent with `Expect: 100-continue` gets an agent of the SDK's own otherwise, which knows neither proxies nor authorities.
        ...(ca === null && Object.keys(agent.proxyEnv).length === 0
          ? { httpAgent: agent, httpsAgent: agent }
          : {
              httpAgent: new HttpAgent(agent),
              httpsAgent: new HttpsAgent({ ...agent, ...(ca === null ? {} : { ca }) }),
            }),
      },
    })
    // One for all clients: keys that are rotated end no thread.
    this.#apart ??= new Apart(
      { ca, proxies: agent.proxyEnv, mostSockets, connectMs, idleMs: this.#idleMs },
      this.#clock,
    )
    sendApart(client, this.#apart)
    client.middlewareStack.add((next) => (args) => next(signedBody(args)), {
      step: 'build',
      name: 'lifeboatSignedBody',
    })
    client.middlewareStack.add(
      (next, { commandName = 'unknown' }) =>
        (args) =>
          this.counts.count(commandName, () => next(args)),
      // Around what reads the answer, within what signs: what could not be signed was not sent.
      { step: 'deserialize', priority: 'high', name: 'lifeboatCounts' },
    )
    noteOperations(client)
    return client
  }
}

/**
 * Says what the signature covers of a body: its SHA-256 where that is at hand, as the checksum or in its metadata, or nothing,
 * as Content-MD5 guards it in any case. Otherwise the SDK would hash all of it once more, in one go.
 */
function signedBody<Args extends { input: object; request: unknown }>(args: Args): Args {
  const { input, request } = args
  if (!('Body' in input) || typeof request !== 'object' || request === null || !('headers' in request)) return args
  const metadata = 'Metadata' in input ? (input.Metadata as Readonly<Record<string, string>>) : {}
  const checksum = 'ChecksumSHA256' in input ? String(input.ChecksumSHA256) : null
  const sha256 = checksum === null ? metadata[sha256Metadata] : Buffer.from(checksum, 'base64').toString('hex')
  const covered = sha256 ?? 'UNSIGNED-PAYLOAD'
  Object.assign(request.headers as object, { 'x-amz-content-sha256': covered })
  return args
}

/** Rejects as soon as the signal aborts, whatever the work waits for. */
function orStopped<Output>(work: Promise<Output>, stop: AbortSignal): Promise<Output> {
  return new Promise((resolve, reject) => {
    const give = (): void => reject(stop.reason)
    stop.addEventListener('abort', give, { once: true })
    work
      .then(resolve, (error: unknown) => reject(stop.aborted ? stop.reason : error))
      .finally(() => stop.removeEventListener('abort', give))
  })
}

const proxyNames = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY']

function proxiesOf(env: S3Settings['env']): Record<string, string> {
  return Object.fromEntries(proxyNames.flatMap((name) => (env[name] ? [[name, env[name]]] : [])))
}

/** The authorities of `AWS_CA_BUNDLE` beside the usual ones; null where it is not set. */
function authoritiesOf(env: S3Settings['env']): string[] | null {
  const file = env.AWS_CA_BUNDLE
  if (!file) return null
  try {
    return [...rootCertificates, readFileSync(file, 'utf8')]
  } catch (cause) {
    throw new LifeboatError('storage-failed', `cannot read ${file}, which AWS_CA_BUNDLE names`, {
      hint: 'name a readable file with certificates, or unset AWS_CA_BUNDLE',
      cause,
    })
  }
}

/** Time alone keeps no process alive (see Clock), but whoever waits for a retry waits for its end. */
class KeepingAlive {
  #holders = 0
  #timer: NodeJS.Timeout | undefined

  hold(): () => void {
    if (this.#holders === 0) this.#timer = setInterval(() => undefined, 2 ** 31 - 1)
    this.#holders += 1
    return () => {
      this.#holders -= 1
      if (this.#holders === 0) clearInterval(this.#timer)
    }
  }
}
