import { stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { RestoreWish } from '../domain/restore-wish.ts'
import { serverOsUser } from '../postgres/os-user.ts'
import { type OsUser, runProgram } from '../postgres/programs.ts'

/**
 * Root gives what it restores to the owner of the directory that is there, or to who usually runs PostgreSQL. Null: whoever
 * we are.
 *
 * @throws LifeboatError `usage-invalid`, `program-missing`
 */
export async function ownerOf({ osUser, to }: RestoreWish): Promise<OsUser | null> {
  if (osUser !== null) {
    const self = userInfo()
    if (self.uid !== 0 && self.username !== osUser)
      throw new LifeboatError(
        'usage-invalid',
        `the files would be of ${self.username}, who runs this, not of ${osUser}`,
        {
          hint: 'run it as root to name another one; or leave --os-user out',
        },
      )
    const user = await serverOsUser(osUser).catch(noSuchUser)
    if (user?.uid !== 0) return user
    throw new LifeboatError('usage-invalid', 'PostgreSQL does not run as root', {
      hint: 'name the OS user that it is to run as: --os-user NAME',
    })
  }
  const found = await stat(to).catch(() => null)
  if (found === null || found.uid === 0) return serverOsUser('postgres').catch(noSuchUser)
  const name = await runProgram({ program: 'id', args: ['-n', '-u', '--', String(found.uid)] }).then(
    ({ stdout }) => stdout.trim(),
    () => 'postgres',
  )
  return serverOsUser(name).catch(noSuchUser)
}

function noSuchUser(cause: unknown): never {
  throw new LifeboatError('program-missing', toFailure(cause).message.replace('a scratch server', 'a server'), {
    hint: 'name the OS user that runs PostgreSQL: --os-user NAME',
    cause,
  })
}
