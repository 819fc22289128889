import { LifeboatError } from '../domain/errors.ts'

/** True if the error came from the operating system with one of these codes, e.g. `ENOENT`. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** Nothing can be there: the name, or a folder on the way to it, does not exist or could not exist. */
export function isMissing(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG')
}

const ownIt =
  'let the user that lifeboat runs as own the repository: directories 0700, files 0600; commands are for that user, or for root'

const hints: Readonly<Record<string, string>> = {
  EACCES: ownIt,
  EPERM: ownIt,
  EROFS: 'the file system is mounted read-only: look for errors in the kernel log, then remount it',
  EIO: 'the disk reports errors: look into the kernel log, and copy what is readable to another disk',
  EXDEV: 'the repository must be on one file system: no mounts below its root',
  EMFILE: 'raise the limit of open files (ulimit -n)',
}

/** A failure of the file system as a LifeboatError; one that already is comes back as it is. `doing`: e.g. `cannot read "a/b"`. */
export function storageFailure(doing: string, error: unknown): LifeboatError {
  if (error instanceof LifeboatError) return error
  if (hasCode(error, 'ENOSPC', 'EDQUOT')) {
    return new LifeboatError('disk-full', `${doing}: no space left`, {
      hint: 'free space or inodes on the file system of the repository, or raise its quota',
      cause: error,
    })
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const hint = hints[code]
  const message = error instanceof Error ? error.message : String(error)
  return new LifeboatError('storage-failed', `${doing}: ${message}`, { ...(hint ? { hint } : {}), cause: error })
}

/** A file lost bytes under its reader. */
export function shrunk(key: string): LifeboatError {
  const message = `cannot read ${JSON.stringify(key)}: the file became shorter while it was read`
  return new LifeboatError('storage-failed', message)
}

/** Why an operation was stopped: the signal's own reason where it is one of ours (it may be `timed-out`), else `cancelled`. */
export function stopped(signal: AbortSignal): LifeboatError {
  if (signal.reason instanceof LifeboatError) return signal.reason
  return new LifeboatError('cancelled', 'the operation was cancelled', { cause: signal.reason })
}

/** Throws if the signal has aborted (see `stopped`). */
export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw stopped(signal)
}
