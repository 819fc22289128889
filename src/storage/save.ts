import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { Digest } from '../domain/backup.ts'
import { eachPiece } from '../domain/lender.ts'

/** Reads a body into a file, which must not be there yet and is only ours to read. The body is taken over. */
export async function saveBody(body: Readable, path: string): Promise<Digest> {
  body.on('error', () => {}) // told below
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      let end = 0
      return await digestBody(body, async (piece) => {
        const start = end
        end += piece.length
        for (let done = 0; done < piece.length; )
          done += (await file.write(piece, done, piece.length - done, start + done)).bytesWritten
      })
    } finally {
      await file.close()
    }
  } finally {
    body.destroy()
  }
}

/** Reads a body to its end, and hashes each piece while it is used. */
export async function digestBody(body: Readable, use: (piece: Uint8Array) => Promise<void>): Promise<Digest> {
  const hash = createHash('sha256')
  let bytes = 0
  await eachPiece(body, async (piece) => {
    const used = use(piece)
    hash.update(piece)
    bytes += piece.length
    await used
  })
  return { bytes, sha256: hash.digest('hex') }
}
