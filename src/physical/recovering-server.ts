import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Installation, programPath } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { type DetachedProgram, type OsUser, startDetached } from '../postgres/programs.ts'
import { closeTablespaces, openTablespaces } from './closed-tablespaces.ts'
import { appendOwned, makeOwnedDirectory, writeOwned } from './owned-files.ts'

export interface RecoveringServerOptions {
  readonly dataDirectory: string
  readonly installation: Installation
  readonly settings: Readonly<Record<string, string>>
  readonly socketDirectory: string
  readonly osUser: OsUser | null
  readonly through: readonly string[] | null
  /** Its name marks the processes; configuration and log are kept in it. */
  readonly workFolder: string
}

/** A server that was started, and may still be on its way. */
export interface RecoveringServer {
  /** How it ended; null while it runs. */
  readonly exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } | null
  /** The log, and where it began for this start. */
  readonly log: { readonly path: string; readonly offset: number }
  /** What it says of itself: `standby` once it takes connections while it recovers, `ready` once it is through. */
  status(): Promise<string>
  /** `immediate` leaves the data directory as a crash would. Resolves when it is gone. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

/** Folder of a recovery's own configuration and log, below the work folder. */
export const recoveryFolder = 'recovery'

/**
 * Starts a server on a data directory, with a configuration of our own beside it: what the data directory holds may be made
 * for another machine. It outlives us.
 *
 * @throws LifeboatError `program-missing`, `program-failed` when there is nothing to start
 */
export async function startRecovering(options: RecoveringServerOptions): Promise<RecoveringServer> {
  const { dataDirectory, installation, osUser, through, socketDirectory, workFolder } = options
  const folder = join(workFolder, recoveryFolder)
  for (const path of [folder, socketDirectory]) await makeOwnedDirectory(path, osUser)
  for (const [name, text] of [
    ['postgresql.conf', ''],
    // Nobody but the server's user gets to the socket.
    ['pg_hba.conf', 'local all all trust\n'],
    ['pg_ident.conf', ''],
  ] as const)
    await writeOwned(join(folder, name), text, osUser)
  await writeOwned(join(dataDirectory, 'recovery.signal'), '', osUser)
  await rm(join(dataDirectory, 'standby.signal'), { force: true })
  await closeTablespaces(dataDirectory)
  const path = join(folder, 'server.log')
  const output = await appendOwned(path, osUser)
  try {
    const { size: offset } = await output.stat()
    const program = await startDetached(
      {
        program: programPath(installation, 'postgres'),
        args: serverArguments(options, folder),
        user: osUser,
        through,
        cwd: dataDirectory,
        bare: true,
        env: { HOME: dataDirectory, [workMarker]: workFolder },
      },
      output.fd,
    )
    return new Running(program, { path, offset }, options)
  } finally {
    await output.close()
  }
}

class Running implements RecoveringServer {
  readonly #program: DetachedProgram
  readonly #options: RecoveringServerOptions
  readonly log: RecoveringServer['log']
  exit: RecoveringServer['exit'] = null

  constructor(program: DetachedProgram, log: RecoveringServer['log'], options: RecoveringServerOptions) {
    this.#program = program
    this.#options = options
    this.log = log
    void program.exited.then(async (exit) => {
      // Whoever removes it must be able to, root or not.
      await openTablespaces(options.dataDirectory)
      this.exit = exit
    })
  }

  /** The pid file's eighth line. Source: src/include/utils/pidfile.h */
  async status(): Promise<string> {
    const text = await readFile(join(this.#options.dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')
    return text.split('\n')[7]?.trim() ?? ''
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    if (this.exit !== null) return
    // Without its first process a namespace is gone; outside, one that is killed leaves its shared memory behind.
    const isNamespace = this.#options.through !== null
    this.#program.kill(mode === 'fast' ? 'SIGINT' : isNamespace ? 'SIGKILL' : 'SIGQUIT')
    const patience = new AbortController()
    const ended = await Promise.race([
      this.#program.exited.then(() => true),
      // A shutdown in the midst of a recovery writes out all that was replayed.
      delay(mode === 'fast' ? 120_000 : 10_000, false, { signal: patience.signal }),
    ])
    patience.abort()
    if (ended) return
    this.#program.kill('SIGKILL')
    await this.#program.exited
  }
}

function serverArguments(
  { dataDirectory, settings, socketDirectory, through }: RecoveringServerOptions,
  folder: string,
) {
  const all = {
    config_file: join(folder, 'postgresql.conf'),
    hba_file: join(folder, 'pg_hba.conf'),
    ident_file: join(folder, 'pg_ident.conf'),
    // In an IPC namespace it goes with the server, and /dev/shm, which containers keep small, is not needed.
    ...(through === null ? {} : { dynamic_shared_memory_type: 'sysv' }),
    ...settings,
    unix_socket_directories: `"${socketDirectory.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    port: String(recoveryPort),
  }
  return ['-D', dataDirectory, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

/** Of a socket that nobody else has. */
export const recoveryPort = 5432
