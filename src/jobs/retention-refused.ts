import { LifeboatError } from '../domain/errors.ts'
import type { RetentionRefusal } from '../domain/retention.ts'

export const clockChanged: RetentionRefusal = {
  cause: 'clock-unknown',
  message: 'the clock was set while backups were being removed',
  hint: 'the next expiry says what is wrong with it',
}

/** Nothing may be removed from a repository or watched directory. */
export function refused(repository: string, { message, hint, cause }: RetentionRefusal): LifeboatError {
  return new LifeboatError('retention-refused', `nothing expires in ${repository}: ${message}`, {
    hint,
    details: { cause, repository },
  })
}
