import { chmod, lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Artifact } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { withCause } from '../postgres/failures.ts'
import { Group, inDirectory } from '../postgres/packed-tar.ts'
import { assertSucceeded, type ProgramOptions, runProgram, startProgram } from '../postgres/programs.ts'

export interface PackOptions {
  readonly directory: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/**
 * Streams a directory as a tar and hands the bytes to `store`. The same directory gives the same bytes each time
 * (sorted, no owners, no times), so that every repository gets an identical artifact without a staged copy of it.
 *
 * @throws LifeboatError `program-failed` when tar failed, even if what it wrote was stored: the caller abandons it then.
 */
export async function packDirectory(
  options: PackOptions,
  store: (tar: Readable) => Promise<Artifact>,
): Promise<Artifact> {
  const args = [
    '--create',
    '--file=-',
    '--format=gnu',
    '--sort=name',
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    '--mode=u=rwX,go=',
    '--mtime=@0',
    ...inDirectory(options.directory),
    '.',
  ]
  const tar = await startProgram({ program: 'tar', args, env: options.env, signal: options.signal })
  const stored = await store(tar.stdout).catch((error: unknown) => {
    tar.stdout.destroy()
    tar.kill('SIGTERM')
    return Promise.reject(error)
  })
  const exit = await tar.exited
  options.signal.throwIfAborted()
  assertSucceeded('tar', exit)
  return stored
}

/**
 * Unpacks a tar that arrives as a stream. GNU tar reads to the end marker and fails on a truncated archive; it refuses
 * members that would land outside the directory. What comes out is for us alone, whatever the archive says.
 *
 * @throws LifeboatError `program-failed` when the archive is broken; `artifact-invalid` when it holds anything but files
 * and directories; `disk-full`; whatever the stream fails with
 */
export async function unpackDirectory(
  options: PackOptions & { readonly decrypt?: ProgramOptions | null },
  source: Readable,
): Promise<void> {
  const { directory, env, signal, decrypt } = options
  const tar: ProgramOptions = {
    program: 'tar',
    args: ['--extract', '--file=-', '--no-same-owner', '--no-same-permissions', ...inDirectory(directory)],
    env,
  }
  await (decrypt ? decrypted(decrypt, tar, { source, signal }) : runProgram({ ...tar, signal, stdin: source })).catch(
    (error: unknown) => {
      throw withCause(error)
    },
  )
  await chmod(options.directory, 0o700)
  await assertPlain(options.directory)
}

async function decrypted(
  decrypt: ProgramOptions,
  tar: ProgramOptions,
  { source, signal }: { readonly source: Readable; readonly signal: AbortSignal },
): Promise<void> {
  await new Group(signal).run([{ ...decrypt, stdin: source }, tar], async (output) => {
    for await (const _ of output); // it prints nothing
  })
}

/**
 * A link would have a program read another file of ours, which root's can be any; a FIFO would have it wait for ever.
 *
 * @throws LifeboatError `artifact-invalid`
 */
async function assertPlain(directory: string): Promise<void> {
  for (const { name, parentPath } of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const found = await lstat(join(parentPath, name))
    if (found.isDirectory() || (found.isFile() && found.nlink === 1)) continue
    const words = `the archive holds ${JSON.stringify(name)}, which is neither a directory nor a file of its own`
    throw new LifeboatError('artifact-invalid', words)
  }
}
