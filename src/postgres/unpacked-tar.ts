import { open, rm } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { chooseHasher, Group, type Hasher, inDirectory, sha256Of, tee } from './packed-tar.ts'
import { type OsUser, type ProgramOptions, runProgram } from './programs.ts'

/*
 * The way back of packed-tar.ts: what is compressed is hashed while it is unpacked. A stream flows once:
 *
 *     us ── tee ── zstd ── tar
 *            └──── openssl      the SHA-256 of what was stored
 *
 * A file is read by either program itself, the second of which finds it in memory: tee and its pipes would take a fifth of the
 * time. bsdtar decompresses by itself: it saves two copies of all that is unpacked, through a pipe.
 */

/** The programs of this machine that do it fastest. */
export interface UnpackTools {
  readonly hasher: Hasher
  readonly unpacker: 'bsdtar' | 'tar'
}

export async function chooseTools(signal: AbortSignal): Promise<UnpackTools> {
  const [hasher, unpacker] = await Promise.all([chooseHasher(signal), chooseUnpacker(signal)])
  return { hasher, unpacker }
}

/** bsdtar (Debian's libarchive-tools) takes two thirds of the time of zstd and GNU tar, and is not everywhere. */
async function chooseUnpacker(signal: AbortSignal): Promise<UnpackTools['unpacker']> {
  try {
    const { stdout } = await runProgram({ program: 'bsdtar', args: ['--version'], signal })
    return /\blibzstd\//.test(stdout) ? 'bsdtar' : 'tar' // without it, it would start zstd
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.code !== 'program-missing') throw error
    return 'tar'
  }
}

export interface UnpackOptions {
  /** Compressed, and encrypted where there is something to decrypt it. Taken over: read to its end or destroyed. */
  readonly source: Readable
  /** What decrypts; null: nothing is encrypted. */
  readonly decrypt: ProgramOptions | null
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
  readonly tools: UnpackTools
  readonly signal: AbortSignal
}

/**
 * Unpacks a compressed tar and gives the SHA-256 of the bytes as they were stored. Until that is compared, what was unpacked is
 * anybody's: both programs keep it inside of the directory, and what it is is for the caller to look at.
 *
 * @throws LifeboatError `program-failed` when it cannot be decompressed or unpacked; `disk-full`; `storage-failed` for a file
 * that was written to meanwhile; what the source fails with
 */
export async function unpackTar(options: UnpackOptions): Promise<string> {
  const { source, descriptor, env, owner, tools, signal } = options
  source.on('error', () => {}) // told below
  const group = new Group(signal)
  const room = Promise.withResolvers<void>()
  group.signal.addEventListener('abort', () => room.resolve(), { once: true })
  void group.add(room.promise)
  let fork: Fork | null = null
  try {
    signal.throwIfAborted() // no event comes any more
    fork = (descriptor === null ? null : await forkFile(descriptor)) ?? (await forkStream(options))
    const hash = group.add(sha256Of(tools.hasher, fork.hashed, { env, signal: group.signal }))
    const stages: ProgramOptions[] = [
      ...fork.stages,
      ...(options.decrypt === null ? [] : [options.decrypt]),
      ...(tools.unpacker === 'bsdtar'
        ? []
        : [{ program: 'zstd', args: ['--decompress', '--stdout', '--quiet'], env, user: owner }]),
      unpackProgram(options, (error) => room.reject(error)),
    ]
    const input = { stdin: descriptor ?? source }
    return await group.run(
      stages.map((stage, index) => (index === 0 ? { ...stage, ...input } : stage)),
      async (output) => {
        for await (const _ of output); // it prints nothing
        room.resolve()
        const found = await group.whole(hash)
        await fork?.assertUnchanged()
        return found
      },
    )
  } catch (error) {
    signal.throwIfAborted()
    // Anything else only says that a program was gone.
    throw source.errored instanceof LifeboatError ? source.errored : error
  } finally {
    await fork?.end()
    source.destroy()
  }
}

/** How what is stored comes to two programs. */
interface Fork {
  /** What the hasher reads: a FIFO, or an open file. */
  readonly hashed: string | number
  /** Before what unpacks. */
  readonly stages: readonly ProgramOptions[]
  /** @throws LifeboatError `storage-failed` when either may have read something else */
  assertUnchanged(): Promise<void>
  end(): Promise<void>
}

async function forkStream({ fifo, env, signal }: UnpackOptions): Promise<Fork> {
  await runProgram({ program: 'mkfifo', args: ['--mode=600', fifo], env, signal })
  const end = () => rm(fifo, { force: true })
  return { hashed: fifo, stages: [tee([fifo], env)], assertUnchanged: async () => {}, end }
}

/**
 * Opened once more, the file has two places to read at: whoever is behind finds in memory what the other one has read. Null
 * where it cannot be, as without /proc.
 */
async function forkFile(descriptor: number): Promise<Fork | null> {
  const again = await open(`/proc/self/fd/${descriptor}`).catch(() => null)
  if (again === null) return null
  const before = await again.stat({ bigint: true })
  const assertUnchanged = async () => {
    const after = await again.stat({ bigint: true })
    if (after.mtimeNs !== before.mtimeNs || after.size !== before.size)
      throw new LifeboatError('storage-failed', 'the file was written to while it was read')
  }
  return { hashed: again.fd, stages: [], assertUnchanged, end: () => again.close() }
}

/** With either program the modification times are those of the unpacking, and the owner is who runs it. */
const how = {
  tar: ['--no-same-owner', '--no-same-permissions', '--touch', '--blocking-factor=256', '--read-full-records'],
  bsdtar: ['--no-same-owner', '--no-same-permissions', '-m'],
}

/** On a full disk either would go on with the next file, to the end of the archive. */
function unpackProgram(
  { directory, exclude, owner, env, tools: { unpacker } }: UnpackOptions,
  onFull: (error: LifeboatError) => void,
): ProgramOptions {
  const where =
    unpacker === 'tar'
      ? ['--anchored', '--no-wildcards', ...exclude.map((name) => `--exclude=${name}`), ...inDirectory(directory)]
      : [...exclude.map((name) => `--exclude=^${name}`), `--directory=${directory}`]
  return {
    program: unpacker,
    args: ['--extract', '--file=-', ...how[unpacker], ...where],
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
