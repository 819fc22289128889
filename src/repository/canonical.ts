import { hash } from 'node:crypto'

/** The line of the checksum and the closing brace: all that the checksum does not cover. */
const trailer = /^ {2}"checksum": "([0-9a-f]{64})"\n\}\n$/

/** Bytes of the trailer: it has the same length in every document. */
const trailerBytes = `  "checksum": "${'0'.repeat(64)}"\n}\n`.length

/**
 * Writes an object as canonical JSON: UTF-8, two spaces of indentation, the fields in the order of the object, and as
 * the last field `checksum`, alone on its line: the SHA-256 of every byte before that line. So anybody can check it:
 *
 *     head -n -2 manifest.json | sha256sum
 *
 * The object must have at least one field, and none called `checksum`.
 */
export function serializeWithChecksum(fields: object): string {
  // Without the closing brace, and with the comma that the checksum's line needs before it.
  const covered = `${JSON.stringify(fields, null, 2).slice(0, -2)},\n`
  return `${covered}  "checksum": "${hash('sha256', covered)}"\n}\n`
}

/**
 * Reads what `serializeWithChecksum` wrote; all fields, `checksum` among them. Refuses (with a `SyntaxError` that says
 * what is wrong) bytes that are cut off, altered or followed by anything, and whatever is not canonical: a field twice,
 * another order of the checksum, a number that does not keep its value.
 */
export function parseWithChecksum(bytes: Buffer): Record<string, unknown> {
  const cut = bytes.length - trailerBytes
  const match = cut > 0 ? trailer.exec(bytes.toString('latin1', cut)) : null
  if (match === null) throw new SyntaxError('it does not end with its checksum: cut off, or something was added')
  const covered = bytes.subarray(0, cut)
  if (hash('sha256', covered) !== match[1])
    throw new SyntaxError('its checksum does not match: it was altered or is damaged')
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  const fields: unknown = JSON.parse(text)
  // Somebody may have edited it and computed the checksum anew. A reader that takes the first of two equal fields would
  // then see something else than one that takes the last.
  if (!isObject(fields) || `${JSON.stringify(fields, null, 2)}\n` !== text)
    throw new SyntaxError('it is not canonical JSON')
  return fields
}

/** True for an object that is no array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
