import { realpath, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { LifeboatError } from '../domain/errors.ts'
import { type OsUser, runProgram } from './programs.ts'

/** How the programs of a scratch server are kept apart from the rest of the machine. */
export interface Isolation {
  /** Command line to start them through; null where this machine does not permit it. */
  readonly through: readonly string[] | null
  /** What there is, or why there is nothing, in words for a proof. */
  readonly detail: string
}

export interface IsolationOptions {
  readonly user: OsUser | null
  /** Directories that it must not see: those that exist and hold none of `needed`. */
  readonly hidden: readonly string[]
  /** Paths that it must reach. */
  readonly needed: readonly string[]
  readonly signal?: AbortSignal
}

/**
 * Finds out, by trying, whether the programs of a scratch server can have namespaces of their own: no network, no other
 * process to be seen, no directory of backups, no capabilities, and no process that outlives the server (it is process 1
 * of its namespace, with which the kernel ends all others). What keeps us from it in a container is seccomp.
 *
 * Source: unshare(1), setpriv(1), pid_namespaces(7), mount_namespaces(7); both programs are of util-linux.
 */
export async function probeIsolation(options: IsolationOptions): Promise<Isolation> {
  const who = options.user === null ? '' : ` as OS user ${options.user.name}`
  const hidden = await hideable(options)
  const through = commandLine(options.user, hidden)
  const [program = '', ...args] = through
  try {
    const { signal } = options
    await runProgram({ program, args: [...args, 'true'], bare: true, ...(signal ? { signal } : {}) })
    return { through, detail: `scratch server${who} in namespaces of its own, ${hidden.length} directories hidden` }
  } catch (error) {
    options.signal?.throwIfAborted()
    if (!(error instanceof LifeboatError)) throw error
    return { through: null, detail: `scratch server${who} without namespaces of its own: ${error.message}` }
  }
}

function commandLine(user: OsUser | null, hidden: readonly string[]): readonly string[] {
  return [
    'unshare',
    // Whoever is not root gets the rights for the rest in a user namespace.
    ...(user === null ? ['--user', '--map-current-user', '--keep-caps'] : []),
    '--net',
    '--pid',
    '--ipc',
    '--mount',
    '--fork',
    '--kill-child=SIGKILL',
    '--mount-proc',
    '--',
    // Any mount hides what is below it, and this is one that can be made without mount(8) and a shell to call it from.
    ...hidden.flatMap((directory) => ['unshare', `--mount-proc=${directory}`, '--']),
    'setpriv',
    ...(user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups']),
    '--no-new-privs',
    '--inh-caps=-all',
    '--ambient-caps=-all',
    '--bounding-set=-all',
    '--pdeathsig=KILL', // again: a change of the user clears that of --kill-child
    '--',
  ]
}

/** The directories that can be hidden without hiding what the server needs. Symbolic links are resolved, as mounts do. */
async function hideable({ hidden, needed }: IsolationOptions): Promise<readonly string[]> {
  const resolved = async (path: string) => realpath(path).catch(() => path)
  const kept = await Promise.all([...needed, tmpdir()].map(resolved))
  const found = new Set<string>()
  for (const path of await Promise.all(hidden.map(resolved))) {
    const isDirectory = (await stat(path).catch(() => null))?.isDirectory() === true
    if (isDirectory && !kept.some((one) => `${one}/`.startsWith(path === '/' ? path : `${path}/`))) found.add(path)
  }
  // What lies below another one is hidden with it, and could not be found any more.
  return [...found].filter((path) => ![...found].some((other) => path.startsWith(`${other}/`)))
}
