/** Uses a piece of what is read; until the promise has resolved, the piece stays as it is. */
export type UsePiece = (piece: Uint8Array) => Promise<void>

/** A stream that can give its bytes in memory that it fills again, so that nothing has to collect what was read. */
export interface Lender {
  /**
   * Reads all of it; nothing else may read then. `use` is called in order, for a few pieces before the first is done with. The event
   * `used` tells the length of each that was. Fails with what the stream or `use` fails with; the stream is destroyed then.
   */
  lend(use: UsePiece): Promise<void>
}

/** Reads all of a stream by pieces, which are only to be looked at while they are used. Destroys it in the end. */
export async function eachPiece(source: AsyncIterable<unknown>, use: UsePiece): Promise<void> {
  if (isLender(source)) return source.lend(use)
  for await (const piece of source) await use(piece as Uint8Array)
}

export function isLender(source: object): source is Lender {
  return 'lend' in source && typeof source.lend === 'function'
}
