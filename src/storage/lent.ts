/** Memory on loan, by the bytes in it, and what gives it back. */
const loans = new WeakMap<Uint8Array, () => void>()

/** Bytes that stay as they are until they are given back. */
export function lend(memory: SharedArrayBuffer, bytes: number, back: () => void): Buffer {
  // Node's buffers can be of shared memory; its types do not know.
  const piece = Buffer.from(memory as unknown as ArrayBuffer, 0, bytes)
  loans.set(piece, back)
  return piece
}

/** Gives memory back: it is filled again then. With bytes that were not lent nothing happens. */
export function giveBack(piece: Uint8Array): void {
  loans.get(piece)?.()
  loans.delete(piece)
}

/** The same bytes, for good. */
export function keep(piece: Buffer): Buffer {
  if (!loans.has(piece)) return piece
  const copy = Buffer.from(piece)
  giveBack(piece)
  return copy
}
