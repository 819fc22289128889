import { createHash } from 'node:crypto'

/** SHA-256 of a token, lower-case hex: the only form in which the config knows it. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex')
}

/**
 * Makes a bearer token and the hash that goes into `auth.tokens`. The prefix lets secret scanners find a token that
 * leaked. A plain hash is enough, since 256 random bits cannot be guessed from it.
 *
 * @param random gives `size` bytes from a cryptographic source, e.g. `randomBytes` of node:crypto
 */
export function makeToken(random: (size: number) => Uint8Array): { token: string; sha256: string } {
  const token = `lb_${Buffer.from(random(32)).toString('base64url')}`
  return { token, sha256: hashToken(token) }
}
