import { constants, type Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'
import type { Problems } from './problems.ts'
import { whyUnreadable } from './read.ts'
import { recipientProblem } from './recipients.ts'
import type { RawConfig } from './schema.ts'
import { accessHint, accessProblem } from './secrets.ts'
import { isRecord } from './shape.ts'
import type { EncryptionConfig } from './validated.ts'

const maxBytes = 64 * 1024

export function encryptionOf({ recipients, recipientsFile, identityFile }: RawConfig['encryption']): EncryptionConfig {
  return { recipients, recipientsFile: recipientsFile ?? null, identityFile: identityFile ?? null }
}

/**
 * Looks at the file of public keys, without which no backup could be made. The one of private keys is looked at when something
 * is opened: backups need none, and must not end with its loss.
 */
export async function checkEncryption(tree: unknown, problems: Problems): Promise<void> {
  const section: unknown = isRecord(tree) ? tree.encryption : undefined
  if (!isRecord(section) || typeof section.recipientsFile !== 'string') return
  try {
    await readRecipients(section.recipientsFile)
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    problems.add(['encryption', 'recipientsFile'], error.message, error.hint)
  }
}

/** The public keys in a file. @throws LifeboatError `config-invalid` */
export async function readRecipients(path: string): Promise<readonly string[]> {
  const text = await readGuarded(path, ({ mode }) =>
    (mode & 0o022) === 0
      ? undefined
      : { message: 'can be written by other users: they could add a key of their own', hint: 'Make it 0644.' },
  )
  const found: string[] = []
  for (const [index, line] of text.split('\n').entries()) {
    const recipient = line.trim()
    if (recipient === '' || recipient.startsWith('#')) continue
    const problem = recipientProblem(recipient)
    if (problem !== undefined) throw invalid(path, `line ${index + 1} ${problem.message}`, problem.hint)
    found.push(recipient)
  }
  if (found.length === 0) throw invalid(path, 'holds no public key', 'One a line, as age-keygen -y prints it.')
  return found
}

/**
 * Sees that a file of private keys is guarded, and that age can use it without asking anybody; it is age that reads it.
 *
 * @throws LifeboatError `config-invalid`
 */
export async function readIdentities(path: string): Promise<void> {
  const text = await readGuarded(path, (stats) => {
    const message = accessProblem(stats)
    return message === undefined ? undefined : { message, hint: accessHint }
  })
  if (/^age-encryption\.org\/|^-----BEGIN AGE ENCRYPTED FILE-----/.test(text) || isLockedKey(text))
    throw invalid(
      path,
      'is protected by a passphrase, and nobody is there to type it',
      'Write the key without one: age -d FILE > key.txt, or ssh-keygen -p; and guard the file.',
    )
  if (/^AGE-PLUGIN-/m.test(text)) throw invalid(path, 'holds a key of a plugin of age, and those are not used')
  if (!/^AGE-SECRET-KEY-|^-----BEGIN (?:OPENSSH|RSA) PRIVATE KEY-----/m.test(text))
    throw invalid(path, 'holds no private key', 'age-keygen -o FILE makes one.')
}

/** Of an SSH key: the cipher stands in its head, or in a header of the older form. */
function isLockedKey(text: string): boolean {
  if (/^Proc-Type: 4,ENCRYPTED|^-----BEGIN ENCRYPTED PRIVATE KEY-----/m.test(text)) return true
  const [, body = ''] = /-----BEGIN OPENSSH PRIVATE KEY-----([^-]*)-----/.exec(text) ?? []
  const key = Buffer.from(body, 'base64')
  const magic = 'openssh-key-v1\0'
  if (!key.subarray(0, magic.length).equals(Buffer.from(magic)) || key.length < magic.length + 4) return false
  const length = key.readUInt32BE(magic.length)
  return key.subarray(magic.length + 4, magic.length + 4 + length).toString('latin1') !== 'none'
}

async function readGuarded(
  path: string,
  look: (stats: Stats) => { readonly message: string; readonly hint: string } | undefined,
): Promise<string> {
  let handle: FileHandle
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK) // a named pipe would hold us here
  } catch (error) {
    throw invalid(path, `cannot be read: ${whyUnreadable(error)}`)
  }
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) throw invalid(path, 'is not a regular file')
    if (stats.size > maxBytes) throw invalid(path, 'is too large to hold keys')
    const problem = look(stats)
    if (problem !== undefined) throw invalid(path, problem.message, problem.hint)
    return await handle.readFile('utf8')
  } catch (error) {
    throw error instanceof LifeboatError ? error : invalid(path, `cannot be read: ${whyUnreadable(error)}`)
  } finally {
    await handle.close()
  }
}

function invalid(path: string, message: string, hint?: string): LifeboatError {
  return new LifeboatError('config-invalid', `${path} ${message}`, hint === undefined ? {} : { hint })
}
