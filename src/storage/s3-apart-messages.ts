/** What the thread keeps to. */
export interface Network {
  /** The authorities of servers; null: the usual ones. */
  readonly ca: readonly string[] | null
  /** `HTTPS_PROXY` and so on. */
  readonly proxies: Readonly<Record<string, string>>
  /** Connections to one server at a time. */
  readonly mostSockets: number
  /** A connection that was not made by then is given up. */
  readonly connectMs: number
  /** A connection on which nothing moves for so long is given up. */
  readonly idleMs: number
}

/** A request without a body, signed, as it goes over the wire. */
export interface SignedRequest {
  readonly protocol: string
  readonly host: string
  readonly port: number | undefined
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** The longest answer that anybody could want, bytes. */
  readonly mostBytes: number
}

/** A request, or null when nobody wants its answer any more; or memory that may be filled again. */
export type ToThread =
  | { readonly id: number; readonly request: SignedRequest | null }
  | { readonly free: SharedArrayBuffer }

/** The beginning of an answer. */
export interface Head {
  readonly statusCode: number
  readonly reason: string
  readonly headers: Readonly<Record<string, string>>
}

/** What makes an error of the network what it is: that does not survive between threads. */
export interface Trouble {
  readonly name: string
  readonly message: string
  readonly code: string | null
}

/** The head comes first, then what is in lent memory, and the end at last: trouble, or null. */
export type FromThread = { readonly id: number } & (
  | { readonly head: Head }
  | { readonly memory: SharedArrayBuffer; readonly bytes: number }
  | { readonly trouble: Trouble | null }
)
