import { chown, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { archiveProgram, programsDirectory, restoreProgram } from '../../src/postgres/archiving.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type OsUser, type ProgramExit, startProgram } from '../../src/postgres/programs.ts'
import { openDirectory } from './scratch.ts'

const mebibyte = 1024 * 1024

/** A whole segment as PostgreSQL lays it out, with a fill of its own: 1 MiB unless told. */
export function segmentBytes(name: string, fill = 1, mebibytes = 1): Buffer {
  const size = mebibytes * mebibyte
  const bytes = Buffer.alloc(size, fill)
  bytes.writeUInt32LE(0x2_d110, 0)
  bytes.writeUInt32LE(Number.parseInt(name.slice(0, 8), 16), 4)
  const place = Number.parseInt(name.slice(8, 16), 16) * 2 ** 32 + Number.parseInt(name.slice(16, 24), 16) * size
  bytes.writeBigUInt64LE(BigInt(place), 8)
  bytes.writeUInt32LE(size, 32)
  bytes.writeUInt32LE(8192, 36)
  return bytes
}

export interface Archive {
  /** Everybody may write into it. */
  readonly base: string
  /** Copies of the programs, since the server's OS user may not enter this checkout. */
  readonly programs: string
  readonly directory: string
  readonly incoming: string
  /** Whom the server runs as, and so its commands. */
  readonly user: OsUser | null
  /** Names of what is stored. */
  stored(): Promise<readonly string[]>
  /** Puts a file where the server would have it, and archives it. */
  archive(name: string, bytes: Buffer | string, env?: Readonly<Record<string, string>>): Promise<ProgramExit>
  /** Gives status, what was said, and what is at %p; null: nothing. */
  restore(
    name: string,
    ...options: readonly string[]
  ): Promise<{ readonly code: number | null; readonly stderr: string; readonly bytes: Buffer | null }>
}

/** An empty archive for one test. */
export async function makeArchive(t: Test, directory?: string): Promise<Archive> {
  const base = await openDirectory(t)
  const user = await serverOsUser('postgres')
  const [programs, source, target] = [join(base, 'programs'), join(base, 'pg wal'), join(base, 'restored')]
  const archive = directory ?? join(base, "the archive's 100%")
  const incoming = join(archive, '.incoming')
  for (const path of [programs, source, target, archive, incoming]) await mkdirFor(path, user)
  for (const program of [archiveProgram, restoreProgram])
    await copyFile(join(programsDirectory, program), join(programs, program))
  let files = 0
  const run = async (program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const running = await startProgram({ program: join(programs, program), args, user, env, cwd: base })
    running.stdout.resume()
    return running.exited
  }
  return {
    base,
    programs,
    directory: archive,
    incoming,
    user,
    stored: async () => (await readdir(archive)).filter((name) => name !== '.incoming').toSorted(),
    archive: async (name, bytes, env) => {
      files += 1
      const path = join(source, String(files))
      await writeFile(path, bytes)
      return run(archiveProgram, [path, name, archive], env)
    },
    restore: async (name, ...options) => {
      const path = join(target, 'RECOVERYXLOG')
      const { code, stderr } = await run(restoreProgram, [...options, name, path, archive])
      return { code, stderr, bytes: await readFile(path).catch(() => null) }
    },
  }
}

async function mkdirFor(path: string, user: OsUser | null): Promise<void> {
  await mkdir(path, { recursive: true })
  if (user !== null) await chown(path, user.uid, user.gid)
}

/** What the programs of an archive start, in the order in which it does. */
export const startedPrograms = ['dd', 'od', 'link', 'unlink', 'sync'] as const

/**
 * A PATH whose programs kill the shell that calls them at the instant KILL_AT (`before link`), or once, after their work,
 * when there is a file of this name in the directory `hooks` beside the archive (`kill-link`).
 */
export async function killingPrograms(archive: Archive): Promise<string> {
  const directory = join(archive.base, 'hooks')
  await mkdir(directory, { recursive: true })
  for (const program of startedPrograms) {
    const script = `#!/bin/sh
case $KILL_AT in
  "before ${program}") kill -9 $PPID; exit 1 ;;
  "amid ${program}") kill -9 $PPID; for a in "$@"; do case $a in if=*) head -c 100000 "\${a#if=}" ;; esac; done >"\${2#of=}"; exit 1 ;;
esac
/usr/bin/${program} "$@"
status=$?
[ "$KILL_AT" != "after ${program}" ] || kill -9 $PPID
[ ! -e '${directory}/kill-${program}' ] || { rm '${directory}/kill-${program}' && kill -9 $PPID; }
exit $status
`
    await writeFile(join(directory, program), script, { mode: 0o755 })
  }
  return `${directory}:/usr/bin:/bin`
}
