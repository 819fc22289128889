import { Readable } from 'node:stream'
import type { EncryptionConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { Group } from '../postgres/packed-tar.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import { ageFailure, decryptStage, encryptStage } from './age.ts'

/**
 * Has bytes go through age. What `use` gets may end early when age fails: that is thrown when `use` is done, which asks
 * `whole` before it makes its result final.
 *
 * @throws LifeboatError as `ageFailure` names them; what the source or `use` fails with; the signal's reason
 */
export async function filterThrough<T>(
  stage: ProgramOptions,
  source: Readable | Uint8Array,
  signal: AbortSignal,
  use: (output: Readable, whole: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const group = new Group(signal)
  try {
    return await group.run([{ ...stage, stdin: source }], (output) => use(output, () => group.whole(Promise.resolve())))
  } catch (error) {
    signal.throwIfAborted()
    const broken = source instanceof Readable ? source.errored : null
    if (broken !== null && !isClosedPipe(broken)) throw broken
    throw ageFailure(error)
  } finally {
    if (source instanceof Readable) source.destroy()
  }
}

/** What only says that the program was gone. */
function isClosedPipe(error: Error): boolean {
  return 'code' in error && ['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(String(error.code))
}

/** Encrypts what fits into memory. @throws LifeboatError as `encryptStage` and `filterThrough` */
export async function encryptBytes(config: EncryptionConfig, bytes: Uint8Array, signal: AbortSignal): Promise<Buffer> {
  const stage = await encryptStage(config)
  if (stage === null) throw new Error('unreachable: nothing is to be encrypted')
  return filterThrough(stage, bytes, signal, (output) => collect(output, Number.POSITIVE_INFINITY))
}

/**
 * Decrypts what fits into memory.
 *
 * @param mostBytes that it may have; more is refused as `artifact-invalid`
 * @throws LifeboatError as `decryptStage` and `filterThrough`
 */
export async function decryptBytes(
  config: EncryptionConfig,
  source: Readable | Uint8Array,
  { mostBytes, signal }: { readonly mostBytes: number; readonly signal: AbortSignal },
): Promise<Buffer> {
  const stage = await decryptStage(config).catch((error: unknown) => {
    if (source instanceof Readable) source.destroy()
    throw error
  })
  return filterThrough(stage, source, signal, (output) => collect(output, mostBytes))
}

async function collect(output: Readable, most: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of output as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > most) throw new LifeboatError('artifact-invalid', `it has more than ${most} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
