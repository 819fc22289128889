import { createReadStream, createWriteStream } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { constants, createGzip, createZstdCompress } from 'node:zlib'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { conninfo } from '../../src/postgres/conninfo.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import type { Cluster } from './postgres.ts'

/** The dumps that people have, as their scripts make them, in a directory. */
export interface ForeignDumps {
  readonly plain: string
  readonly plainGzip: string
  readonly plainZstd: string
  readonly custom: string
  /** The script of many: a custom dump, gzipped, and named `.sql.gz`. */
  readonly customGzip: string
  readonly tar: string
  readonly tarZstd: string
  readonly directory: string
  readonly everything: string
  readonly everythingGzip: string
}

export async function makeForeignDumps(
  { installation, source, major }: Cluster,
  database: string,
  folder: string,
): Promise<ForeignDumps> {
  await chmod(folder, 0o755)
  const env = await clientEnvironment({ source, serverMajor: major, workFolder: folder })
  const dump = async (name: string, ...args: string[]) => {
    const path = join(folder, name)
    const program = programPath(installation, name.startsWith('all') ? 'pg_dumpall' : 'pg_dump')
    const target = `--dbname=${conninfo({ ...source, database })}`
    await runProgram({ program, args: [...args, `--file=${path}`, target], env })
    return path
  }
  const compressed = async (from: string, name: string) => {
    const path = join(folder, name)
    const compress = name.endsWith('.gz')
      ? createGzip({ level: 1 })
      : createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1 } })
    await pipeline(createReadStream(from), compress, createWriteStream(path))
    return path
  }
  const plain = await dump('app.sql')
  const custom = await dump('app.dump', '--format=custom')
  const tar = await dump('app.tar', '--format=tar')
  const everything = await dump('all.sql')
  return {
    plain,
    plainGzip: await compressed(plain, 'app_plain.sql.gz'),
    plainZstd: await compressed(plain, 'app_plain.sql.zst'),
    custom,
    customGzip: await compressed(custom, 'app.sql.gz'),
    tar,
    tarZstd: await compressed(tar, 'app.tar.zst'),
    directory: await dump('app.dir', '--format=directory'),
    everything,
    everythingGzip: await compressed(everything, 'all.sql.gz'),
  }
}
