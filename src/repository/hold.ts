import { LifeboatError } from '../domain/errors.ts'
import { parseWithChecksum, serializeWithChecksum } from './canonical.ts'
import { backupIdShape, problemOf, refuseUnknownVersion } from './manifest.ts'
import { checked, nonEmptyText, nullable, objectOf, ShapeError, satisfying, sha256, text, timestamp } from './shape.ts'

const holdFormatVersion = 1

/** The contents of `holds/<backup-id>.json`: somebody wants this backup kept, whatever the policy says. */
export interface Hold {
  readonly formatVersion: typeof holdFormatVersion
  readonly backupId: string
  readonly heldAt: string
  /** Who asked for it, e.g. the OS user. */
  readonly heldBy: string
  /** Any text; empty when none was given. */
  readonly reason: string
  /** When it ends by itself; null: when it is released. */
  readonly until: string | null
  /** The version that wrote it. */
  readonly lifeboat: string
  /** SHA-256 of the canonical JSON without this field; always the last field. */
  readonly checksum: string
}

export type HoldBody = Omit<Hold, 'checksum' | 'formatVersion'>

const shape = objectOf<Hold>({
  formatVersion: satisfying(String(holdFormatVersion), (value) => value === holdFormatVersion),
  backupId: backupIdShape,
  heldAt: timestamp,
  heldBy: nonEmptyText,
  reason: text,
  until: nullable(timestamp),
  lifeboat: nonEmptyText,
  checksum: sha256,
})

/** The text of its file. Fails with `usage-invalid` on what `parseHold` would refuse. */
export function serializeHold(body: HoldBody): string {
  const { backupId, heldAt, heldBy, reason, until, lifeboat } = body
  const fields = { formatVersion: holdFormatVersion, backupId, heldAt, heldBy, reason, until, lifeboat }
  const file = serializeWithChecksum(fields)
  try {
    checked(shape, parseWithChecksum(Buffer.from(file)))
    return file
  } catch (error) {
    throw new LifeboatError('usage-invalid', `cannot write the hold: ${problemOf(error)}`, { cause: error })
  }
}

/** Reads a hold and checks all of it. Fails with `storage-failed`: the backup must then be taken for held. */
export function parseHold(bytes: Buffer, expected: { readonly backupId: string; readonly key: string }): Hold {
  try {
    const fields = parseWithChecksum(bytes)
    refuseUnknownVersion(fields, holdFormatVersion)
    const hold = checked(shape, fields)
    if (hold.backupId !== expected.backupId)
      throw new ShapeError(`backupId is ${hold.backupId}, its name says otherwise`)
    return hold
  } catch (error) {
    throw new LifeboatError('storage-failed', `the hold ${expected.key} is not valid: ${problemOf(error)}`, {
      hint: 'its backup counts as held: hold it anew, or release it',
      cause: error,
    })
  }
}
