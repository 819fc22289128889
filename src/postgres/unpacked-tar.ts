import { rm } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { Group, type Hasher, inDirectory, sha256Of, tee } from './packed-tar.ts'
import { type OsUser, type ProgramOptions, runProgram } from './programs.ts'

/*
 * The way back of packed-tar.ts: what is compressed flows once, and is hashed while it is unpacked.
 *
 *     us ── tee ── zstd ── tar
 *            └──── openssl      the SHA-256 of what was stored
 */

export interface UnpackOptions {
  /** Compressed. Taken over: read to its end or destroyed. */
  readonly source: Readable
  /** The file that the source would read, where it is one: it is read without us then. */
  readonly descriptor: number | null
  /** Must be there, and the owner's. */
  readonly directory: string
  /** Members of the top level that are left out. */
  readonly exclude: readonly string[]
  /** Whose the files are; null: ours. */
  readonly owner: OsUser | null
  /** A path that is free, for a FIFO. */
  readonly fifo: string
  readonly env: Readonly<Record<string, string>>
  readonly hasher: Hasher
  readonly signal: AbortSignal
}

/**
 * Unpacks a compressed tar and gives the SHA-256 of the compressed bytes. Until that is compared, what was unpacked is
 * anybody's: GNU tar keeps it inside of the directory, and what it is is for the caller to look at.
 *
 * @throws LifeboatError `program-failed` when it cannot be decompressed or unpacked; `disk-full`; what the source fails with
 */
export async function unpackTar(options: UnpackOptions): Promise<string> {
  const { source, descriptor, fifo, env, hasher, owner, signal } = options
  source.on('error', () => {}) // told below
  const group = new Group(signal)
  const room = Promise.withResolvers<void>()
  group.signal.addEventListener('abort', () => room.resolve(), { once: true })
  void group.add(room.promise)
  try {
    await runProgram({ program: 'mkfifo', args: ['--mode=600', fifo], env, signal })
    const hash = group.add(sha256Of(hasher, fifo, { env, signal: group.signal }))
    const stages: readonly ProgramOptions[] = [
      { ...tee([fifo], env), stdin: descriptor ?? source },
      { program: 'zstd', args: ['--decompress', '--stdout', '--quiet'], env, user: owner },
      tarProgram(options, (error) => room.reject(error)),
    ]
    return await group.run(stages, async (output) => {
      for await (const _ of output); // it prints nothing
      room.resolve()
      return group.whole(hash)
    })
  } catch (error) {
    signal.throwIfAborted()
    // Anything else only says that a program was gone.
    throw source.errored instanceof LifeboatError ? source.errored : error
  } finally {
    source.destroy()
    await rm(fifo, { force: true })
  }
}

/** tar would go on with the next file, to the end of the archive. */
function tarProgram(
  { directory, exclude, owner, env }: UnpackOptions,
  onFull: (error: LifeboatError) => void,
): ProgramOptions {
  return {
    program: 'tar',
    args: [
      '--extract',
      '--file=-',
      '--blocking-factor=256',
      '--read-full-records',
      '--no-same-owner',
      '--no-same-permissions',
      '--touch',
      '--anchored',
      '--no-wildcards',
      ...exclude.map((name) => `--exclude=${name}`),
      ...inDirectory(directory),
    ],
    env,
    user: owner,
    onStderrLine: (line) => {
      if (!/No space left on device|Disk quota exceeded/.test(line)) return
      onFull(
        new LifeboatError('disk-full', `cannot unpack into ${directory}: no space left`, { hint: 'free some space' }),
      )
    },
  }
}
