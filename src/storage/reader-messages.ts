import { type ErrorCode, LifeboatError } from '../domain/errors.ts'
import type { ExpectedFiles, FileDeviation, ObjectInfo } from './storage.ts'

/** A look at the name of one object, a look at the open file, or all of it. */
export interface Name<What extends 'entry' | 'head' | 'body'> {
  readonly what: What
  readonly key: string
}

/** See `FileLook`. */
export interface Comparison {
  readonly what: 'compare'
  readonly folders: readonly ExpectedFiles[]
}

/** What the thread that reads is asked for. */
export type Question = Name<'entry' | 'head' | 'body'> | Comparison

export type Request = Question & {
  readonly id: number
  /** The real path of the storage's root. */
  readonly root: string
}

export interface Found {
  readonly info: ObjectInfo
}

/** What `body` gives: the bytes or, where they are many, an open descriptor that belongs to the receiver from now on. */
export interface Opened extends Found {
  readonly body: Uint8Array<ArrayBuffer> | number
}

/** Null: there is no such object. */
export type Answered = Found | Opened | readonly FileDeviation[] | null

/** The answer to a request. */
export type Answer = { readonly id: number } & ({ readonly found: Answered } | { readonly fault: Fault })

/** An error on its way between threads: what makes it what it is does not survive there. */
export interface Fault {
  readonly message: string
  /** Of a LifeboatError. */
  readonly own?: { readonly code: ErrorCode; readonly hint: string | undefined }
  /** `code`, `errno`, `syscall` and `path` of an error of the system. */
  readonly system?: Readonly<Record<string, unknown>>
}

export function toFault(error: unknown): Fault {
  if (error instanceof LifeboatError) return { message: error.message, own: { code: error.code, hint: error.hint } }
  if (error instanceof Error) return { message: error.message, system: Object.fromEntries(Object.entries(error)) }
  return { message: String(error) }
}

export function toError({ message, own, system }: Fault): Error {
  if (own !== undefined) return new LifeboatError(own.code, message, own.hint === undefined ? {} : { hint: own.hint })
  return Object.assign(new Error(message), system)
}
