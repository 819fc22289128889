import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { zstdCompress } from 'node:zlib'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'
import { parseWalName, walFileKind } from '../../src/domain/wal.ts'
import type { StoredWalState } from '../../src/observe/wal-state.ts'
import type { Repository } from '../../src/repository/repository.ts'

const compress = promisify(zstdCompress)

/** Copies what is in an archive directory into a repository, in the order of the names: the least that shipping can be. */
export class Copier {
  readonly #done = new Set<string>()

  /** How many files were copied. */
  async copy(archive: string, repository: Repository, systemIdentifier: string): Promise<number> {
    let copied = 0
    const names = (await readdir(archive)).filter((name) => walFileKind(name) !== null && !this.#done.has(name)).sort()
    for (const name of names) {
      const bytes = await readFile(join(archive, name))
      const kind = walFileKind(name)
      if (kind === 'history' || kind === 'label') {
        await repository.wal.put({ systemIdentifier, name, hash: null }, bytes)
      } else {
        const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 12)
        await repository.wal.put({ systemIdentifier, name, hash }, await compress(bytes))
      }
      this.#done.add(name)
      copied += 1
    }
    return copied
  }
}

/** Everything that is stored, listed anew: for a few segments. */
export async function listStored(
  repository: Repository,
  systemIdentifier: string,
  segmentSize: number,
): Promise<StoredWalState> {
  const coverage = new WalCoverage(segmentSize, new Timelines())
  let bytes = 0
  for await (const { name, kind, info } of repository.wal.listPlain(systemIdentifier)) {
    const file = kind === 'history' ? parseWalName(name, segmentSize) : null
    if (file?.kind !== 'history') continue
    const chunks: Buffer[] = []
    for await (const chunk of await repository.wal.read({ info })) chunks.push(chunk as Buffer)
    coverage.timelines.add(parseHistory(file.timeline, Buffer.concat(chunks).toString()))
  }
  for await (const timeline of repository.wal.timelines(systemIdentifier)) {
    for await (const { name, info } of repository.wal.list(systemIdentifier, timeline)) {
      const file = parseWalName(name, segmentSize)
      if (file !== null) coverage.add(file)
      bytes += info.bytes
    }
  }
  const { size: segments } = coverage
  const system = { systemIdentifier, coverage, segments, partials: 0, bytes, contradictions: 0 }
  const systems = new Map([[systemIdentifier, system]])
  return { repository: repository.name, systems, revision: ++revision, listedAt: new Date() }
}

let revision = 0
