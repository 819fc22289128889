import { rename, rm } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'

/**
 * Makes a file whole or not at all: the work writes to another name beside it. Nothing is synced: after a crash PostgreSQL
 * asks for the file again.
 *
 * @throws what the work throws; `disk-full`, `storage-failed`
 */
export async function makeWhole(
  target: string,
  work: (path: string) => Promise<void>,
  path = `${target}.lifeboat`,
): Promise<void> {
  try {
    // What a killed run left; it may write on, into a file that has no name any more.
    await rm(path, { force: true })
    await work(path)
    await rename(path, target)
  } catch (error) {
    await rm(path, { force: true }).catch(() => {})
    throw targetFailure(target, error)
  }
}

function targetFailure(target: string, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  if (error instanceof LifeboatError || typeof code !== 'string' || !/^E[A-Z]+$/.test(code)) return error
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  return new LifeboatError(isFull ? 'disk-full' : 'storage-failed', `cannot write ${target}: ${message}`, {
    cause: error,
  })
}
