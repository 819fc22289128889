import { constants, type Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'
import { whyUnreadable } from './read.ts'

const maxBytes = 64 * 1024

/**
 * Why a file is open to more users than it should be, or undefined. The rule is libpq's for private keys
 * (https://www.postgresql.org/docs/current/libpq-ssl.html): nobody but the owner; a file of root's may be readable by its
 * group, which is how secrets get into containers that do not run as root.
 */
export function accessProblem({ uid, mode }: Pick<Stats, 'uid' | 'mode'>): string | undefined {
  const open = uid === 0 ? mode & 0o037 : mode & 0o077
  return open === 0 ? undefined : `has mode ${(mode & 0o777).toString(8).padStart(4, '0')}: other users can get at it`
}

export const accessHint = 'Make it 0600, or 0640 when root owns it.'

/**
 * Reads a file that holds one secret and drops one newline at its end. Error messages name the file, never its contents.
 *
 * Throws `config-invalid` when it is missing, unreadable, empty, no regular file, not UTF-8, of more than one line (unless
 * `lines` are wanted), or open to other users.
 */
export async function readSecretFile(path: string, { lines = false } = {}): Promise<string> {
  const fail = (message: string, hint?: string) =>
    new LifeboatError('config-invalid', `${path} ${message}`, hint ? { hint } : {})
  let handle: FileHandle
  try {
    // Without O_NONBLOCK a named pipe would hold us here until somebody writes to it.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw fail(`cannot be read: ${whyUnreadable(error)}`)
  }
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) throw fail('is not a regular file')
    const access = accessProblem(stats)
    if (access) throw fail(access, accessHint)
    if (stats.size > maxBytes) throw fail('is too large to hold a password')
    const secret = decode(await handle.readFile()).replace(/\r?\n$/, '')
    if (secret === '') throw fail('is empty')
    if ((lines ? /\0/ : /[\0\r\n]/).test(secret)) throw fail('holds more than one line, or a NUL')
    return secret
  } catch (error) {
    throw error instanceof LifeboatError ? error : fail(`cannot be read: ${whyUnreadable(error)}`)
  } finally {
    await handle.close()
  }
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}
