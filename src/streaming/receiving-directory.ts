import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, open, readdir, rename, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { parseWalName, type SegmentId, segmentName, walFileKind } from '../domain/wal.ts'
import { longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import { incomingDirectory } from '../postgres/archiving.ts'
import { hasCode, isMissing, storageFailure } from '../storage/failures.ts'
import { syncDirectory } from '../storage/root.ts'

/** In the archive: where the receiver writes. It begins after the highest file that it finds, which must be ours to say. */
export const receivingDirectory = '.receiving'

const chunkBytes = 1024 * 1024

/**
 * The directory in which pg_receivewal writes, inside of the archive. What is finished goes on to the archive by a link,
 * which replaces nothing. Methods fail with `storage-failed`, `disk-full`, and `conflict` where the archive has other bytes.
 */
export class ReceivingDirectory {
  readonly archive: string
  readonly path: string

  constructor(archive: string) {
    this.archive = archive
    this.path = join(archive, receivingDirectory)
  }

  /**
   * Makes it, and the archive around it, if `mayMake`. Otherwise it has been there before, and its disk is not mounted.
   */
  async ready(mayMake: boolean): Promise<void> {
    await this.#do(`cannot use ${this.path}`, async () => {
      try {
        if ((await stat(this.path)).isDirectory()) return
        throw new LifeboatError('storage-failed', `${this.path} is no directory`)
      } catch (error) {
        if (!isMissing(error)) throw error
      }
      if (!mayMake)
        throw new LifeboatError('storage-failed', `there is no ${this.path}, though the slot has been used before`, {
          hint: `mount the disk that holds it; if there is none, or it was removed: mkdir -p ${JSON.stringify(this.path)}`,
        })
      await mkdir(this.archive, { recursive: true, mode: 0o750 })
      for (const path of [join(this.archive, incomingDirectory), this.path]) {
        await mkdir(path).catch((error: unknown) => {
          if (!hasCode(error, 'EEXIST')) throw error
        })
      }
      await syncDirectory(this.archive)
    })
  }

  /** Puts what is finished into the archive, durably, and in order. Returns the names. */
  async moveFinished(): Promise<readonly string[]> {
    return this.#do('cannot put received WAL into the archive', async () => {
      const finished = (await readdir(this.path)).filter((name) => isFinished(name)).toSorted()
      for (const name of finished) await this.#link(name)
      if (finished.length === 0) return finished
      await syncDirectory(this.archive)
      for (const name of finished) await unlink(join(this.path, name))
      return finished
    })
  }

  /**
   * The first segment that is not stored whole, by the newest partial; null if there is none. Call `moveFinished` before.
   * A partial of another cluster does not count.
   */
  async next(segmentSize: number, systemIdentifier: string): Promise<SegmentId | null> {
    return this.#do(`cannot read ${this.path}`, async () => {
      for (const { name, ...id } of (await this.partials(segmentSize)).toReversed()) {
        const header = readWalPageHeader(await this.#head(name))
        if (header === null || header.systemIdentifier === systemIdentifier) return id
      }
      return null
    })
  }

  /** The segment after the newest whole one in the archive; null if there is none. Lists it all. */
  async nextInArchive(segmentSize: number): Promise<SegmentId | null> {
    const names = await this.#do(`cannot read ${this.archive}`, () => readdir(this.archive))
    let newest: SegmentId | null = null
    for (const name of names) {
      const file = parseWalName(name, segmentSize)
      if (file?.kind !== 'segment') continue
      if (newest === null || compare(file, newest) > 0) newest = { timeline: file.timeline, segment: file.segment }
    }
    return newest === null ? null : { timeline: newest.timeline, segment: newest.segment + 1 }
  }

  /** Partials, in the order of their places, and of their timelines where these are the same. */
  async partials(segmentSize: number): Promise<readonly (SegmentId & { readonly name: string })[]> {
    const found = (await readdir(this.path)).flatMap((name) => {
      const file = parseWalName(name, segmentSize)
      const isPartial = file?.kind === 'partial' && file.end === null
      return isPartial ? [{ name, timeline: file.timeline, segment: file.segment }] : []
    })
    return found.toSorted(compare)
  }

  /**
   * Leaves exactly one file of WAL: the partial with which the receiver begins. An empty one is as good to it as one that
   * has been padded; one of another length was torn before anything was written to it, and would stop it for good.
   * What else there is, and holds WAL, is kept under a name that the receiver does not know.
   */
  async prepare({ timeline, segment }: SegmentId, segmentSize: number): Promise<void> {
    const first = `${segmentName(timeline, segment, segmentSize)}.partial`
    await this.#do(`cannot prepare ${this.path}`, async () => {
      for (const { name } of await this.partials(segmentSize)) {
        const path = join(this.path, name)
        const { size } = await stat(path)
        const holdsWal = size === segmentSize && readWalPageHeader(await this.#head(name)) !== null
        if (name === first && (holdsWal || size === 0 || size === segmentSize)) continue
        if (holdsWal) await rename(path, `${path}.${randomBytes(6).toString('hex')}`)
        else await rm(path)
      }
      await writeFile(join(this.path, first), '', { flag: 'a', mode: 0o640 })
    })
  }

  async #head(name: string): Promise<Buffer> {
    const file = await open(join(this.path, name))
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(longHeaderSize), 0, longHeaderSize, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await file.close()
    }
  }

  async #link(name: string): Promise<void> {
    const [from, to] = [join(this.path, name), join(this.archive, name)]
    // For the group as well, as archive_command leaves it: whoever restores may be another OS user.
    await chmod(from, 0o640)
    try {
      await link(from, to)
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
      if (await areSame(from, to)) return
      throw new LifeboatError('conflict', `other bytes are stored as ${to} than were received`, {
        hint: `another server, or a restored copy of this one, archives into the same directory: give each its own. What was received stays in ${this.path}`,
      })
    }
  }

  async #do<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof LifeboatError) throw error
      const { code, message, hint, details } = storageFailure(doing, error)
      throw new LifeboatError(code, message, {
        hint: hint === undefined || code === 'storage-failed' ? `see to the directory ${this.archive}` : hint,
        ...(details ? { details } : {}),
        cause: error,
      })
    }
  }
}

function isFinished(name: string): boolean {
  const kind = walFileKind(name)
  return kind === 'segment' || kind === 'history'
}

function compare(a: SegmentId, b: SegmentId): number {
  return a.segment - b.segment || a.timeline - b.timeline
}

async function areSame(one: string, other: string): Promise<boolean> {
  const files = [await open(one)]
  try {
    files.push(await open(other))
    const buffers = files.map(() => Buffer.alloc(chunkBytes))
    for (let at = 0; ; ) {
      const [a, b] = await Promise.all(
        files.map(async (file, index) => {
          const { buffer, bytesRead } = await file.read(buffers[index] as Buffer, 0, chunkBytes, at)
          return buffer.subarray(0, bytesRead)
        }),
      )
      if (a === undefined || b === undefined || !a.equals(b)) return false
      if (a.length === 0) return true
      at += a.length
    }
  } finally {
    for (const file of files) await file.close()
  }
}
