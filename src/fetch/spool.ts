import { lchown, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { walFileKind } from '../domain/wal.ts'
import { AskedWatch } from './asked-watch.ts'
import { readControl } from './system.ts'
import { makeWhole } from './target.ts'

/*
 * What lifeboat-restore-wal and the prefetcher share is a directory that only one recovery uses, of one boot of the machine
 * (nothing in it is synced). It may be removed at any time. Its name: <16 hex of the system identifier>-<boot>.
 *
 *     <file>           whole and checked, under its name by a rename; the script moves it away
 *     <file>.part      being written
 *     wanted           written by the script: the file that PostgreSQL asks for, and ` !` when it is not in the spool
 *     missed           written by the prefetcher: the wanted file, and ` 44` when it is nowhere; without, the prefetcher cannot tell
 *     prefetcher       written by the script: the process id of the prefetcher that it has started; or by who is one
 */

/** What the script asks for. */
export interface WantedFile {
  readonly name: string
  /** It is not in the spool, and PostgreSQL waits. */
  readonly urgent: boolean
  /** Another one with each time that the script asks. */
  readonly stamp: string
}

const wantedPattern = /^(\S+)( !)?\n$/
const spoolPattern = /^([0-9a-f]{16})-.+$/

/** Directories of former boots are not looked at for so long: the clock may be another machine's. */
const leftoverMs = 3600_000

/** Of this boot of the machine. */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'none')).trim()
}

/** The name of the spool of a data directory, as lifeboat-restore-wal has it. */
export async function spoolName(dataDirectory: string): Promise<string> {
  const control = await readControl(dataDirectory)
  const system = BigInt(control?.systemIdentifier ?? 0)
    .toString(16)
    .padStart(16, '0')
  return `${system}-${await bootId()}`
}

export interface SpoolOwner {
  readonly uid: number
  readonly gid: number
}

export class Spool {
  readonly directory: string
  readonly #owner: SpoolOwner | null
  #inode: bigint | null = null

  /** @param owner whose the files are to be, where it is another OS user that recovers; only root can have that */
  constructor(directory: string, owner: SpoolOwner | null = null) {
    this.directory = directory
    this.#owner = owner
  }

  /** True when it was removed since the first call; what is there now is another one, with a prefetcher of its own. */
  async isGone(): Promise<boolean> {
    const found = await stat(this.directory, { bigint: true }).catch(() => null)
    this.#inode ??= found?.ino ?? null
    return found === null || found.ino !== this.#inode
  }

  /**
   * Null where nothing, or nothing sound, is asked for, or the script is just writing it: one request must never look like two,
   * whose answers would get into each other's way. Fails with ENOENT when the spool was removed.
   */
  async wanted(): Promise<WantedFile | null> {
    const path = join(this.directory, 'wanted')
    const { mtimeNs, size } = await stat(path, { bigint: true })
    const text = await readFile(path, 'latin1')
    const after = await stat(path, { bigint: true })
    if (after.mtimeNs !== mtimeNs || after.size !== size || text.length !== Number(size)) return null
    const [, name, urgent] = wantedPattern.exec(text) ?? []
    return name === undefined || walFileKind(name) === null
      ? null
      : { name, urgent: urgent !== undefined, stamp: `${mtimeNs} ${size} ${name}` }
  }

  /** Tells when something may have been asked for, where the system has a watch to spare. */
  watch(): AskedWatch {
    return new AskedWatch(this.directory)
  }

  async segments(): Promise<ReadonlySet<string>> {
    return new Set((await readdir(this.directory)).filter((name) => walFileKind(name) === 'segment'))
  }

  /** Makes a file whole or not at all. */
  async publish(name: string, work: (path: string) => Promise<void>): Promise<void> {
    const give = async (path: string) => {
      await work(path)
      await this.#give(path)
    }
    await makeWhole(join(this.directory, name), give, join(this.directory, `${name}.part`))
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.directory, name), { force: true })
  }

  /** Says that a file is nowhere, or that one cannot tell. */
  async tellMissed(name: string, answer: 'nowhere' | 'failed'): Promise<void> {
    const path = join(this.directory, 'missed')
    await writeFile(`${path}.part`, answer === 'nowhere' ? `${name} 44\n` : `${name}\n`)
    await this.#give(`${path}.part`)
    await rename(`${path}.part`, path)
  }

  async #give(path: string): Promise<void> {
    if (this.#owner !== null) await lchown(path, this.#owner.uid, this.#owner.gid)
  }

  /** Removes halves that a killed prefetcher has left, and the spools of this recovery from before a restart of the machine. */
  async tidy(now: Date): Promise<void> {
    for (const name of await readdir(this.directory)) if (name.endsWith('.part')) await this.remove(name)
    const [parent, own] = [dirname(this.directory), basename(this.directory)]
    const system = spoolPattern.exec(own)?.[1]
    for (const name of system === undefined ? [] : await readdir(parent)) {
      if (name === own || spoolPattern.exec(name)?.[1] !== system) continue
      const found = await stat(join(parent, name)).catch(() => null)
      if (found !== null && now.getTime() - found.mtimeMs > leftoverMs)
        await rm(join(parent, name), { recursive: true, force: true })
    }
  }

  /** Removes all of it, also while a fetch that was given up still writes into it. */
  async destroy(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 })
  }

  /**
   * Locks it for as long as this process lives, however it ends: null when another one has it. The lock is an abstract
   * socket, which Linux alone has; elsewhere two prefetchers do the work twice.
   */
  async lock(): Promise<{ release(): void } | null> {
    const { dev, ino } = await stat(this.directory)
    const server = createServer((socket) => socket.destroy())
    const name = `\0lifeboat-prefetch-${dev}-${ino}`
    const taken = await new Promise<boolean>((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE'))
      server.listen(name, () => resolve(false))
    })
    server.unref()
    return taken ? null : { release: () => server.close() }
  }
}
