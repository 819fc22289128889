import { readdir, readFile, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { type OsUser, runProgram } from './programs.ts'

/**
 * The OS user that a server must run as: null (ourselves) unless we are root, since PostgreSQL refuses to run as root.
 *
 * @throws LifeboatError `program-missing` when we are root and there is no such user.
 */
export async function serverOsUser(name: string): Promise<OsUser | null> {
  if (userInfo().uid !== 0) return null
  try {
    // Not all at once: names may hold anything, and those of all groups may have to be asked for in the network.
    const [uid, gid] = await Promise.all([idOf(name, '-u'), idOf(name, '-g')])
    return { name, uid, gid }
  } catch (cause) {
    throw new LifeboatError(
      'program-missing',
      `a scratch server cannot run as root, and there is no OS user ${JSON.stringify(name)}`,
      { hint: 'create the user, or name another one in verification.osUser', cause },
    )
  }
}

async function idOf(name: string, flag: '-u' | '-g'): Promise<number> {
  const { stdout } = await runProgram({ program: 'id', args: [flag, '--', name] })
  if (/^\d+\n$/.test(stdout)) return Number(stdout)
  throw new LifeboatError('program-failed', `id ${flag} printed no number`)
}

/** What the OS user of a scratch server must not own. */
export interface Precious {
  /** Directories in which servers keep their Unix sockets. */
  readonly socketDirectories: readonly string[]
  /** Directories of repositories. */
  readonly directories: readonly string[]
}

/**
 * A scratch server carries out what a dump holds, so whoever owns a table in a dumped database can act as its OS user.
 * That must not be root, the OS user of a server on this machine (`peer` lets it in as superuser), or one who can remove
 * backups.
 *
 * @throws LifeboatError `usage-invalid`
 */
export async function assertHarmless(user: OsUser, precious: Precious): Promise<void> {
  const owned = user.uid === 0 ? 'everything' : await firstOwned(user.uid, precious)
  if (owned === null) return
  throw new LifeboatError(
    'usage-invalid',
    `the scratch server must not run as the OS user ${user.name}, who owns ${owned}: it carries out what dumps hold`,
    {
      hint: 'set verification.osUser to a user who owns nothing: nobody, or better one of its own (useradd --system lifeboat-scratch)',
    },
  )
}

async function firstOwned(uid: number, { socketDirectories, directories }: Precious): Promise<string | null> {
  const paths = [...(await Promise.all(socketDirectories.map(serverFiles))).flat(), ...directories]
  for (const path of paths) {
    const found = await stat(path).catch(() => null) // not there, or not for us to see
    if (found?.uid === uid) return path
  }
  return null
}

/** The sockets in a directory, and the data directories of their servers where the lock files can be read. */
async function serverFiles(directory: string): Promise<readonly string[]> {
  const names = (await readdir(directory).catch(() => [])).filter((name) => /^\.s\.PGSQL\.\d+$/.test(name))
  const found = names.map(async (name) => {
    const socket = join(directory, name)
    // Its second line is the data directory. Source: src/include/utils/pidfile.h
    const [, data = ''] = (await readFile(`${socket}.lock`, 'utf8').catch(() => '')).split('\n')
    return data === '' ? [socket] : [socket, data]
  })
  return (await Promise.all(found)).flat()
}
