import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { programsDirectory, restoreCommand, restoreProgram } from '../../src/postgres/archiving.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { lifeboatProgram, repositoriesConfig } from '../support/lifeboat-program.ts'
import { WalRepository } from '../support/wal-repository.ts'
import type { Figure } from './table.ts'
import { prepare, recover } from './wal.ts'

const recoveries = 5
/** Long enough that what counts is the pace, and not how long the programs take to start. */
const segments = 200

/** A whole recovery from a repository, compressed, through the spool, against `cp` from a local directory; in turn. */
export async function benchFetch(base: string): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'fetch-'))
  await chmod(directory, 0o777)
  const ground = await prepare(directory, segments)
  const { server, user, names } = ground
  try {
    const [walDirectory, archive] = [join(server.dataDirectory, 'pg_wal'), join(directory, 'plain')]
    await mkdir(archive)
    await chmod(archive, 0o755)
    const place = new WalRepository(join(directory, 'repository'), 'first')
    const system = await withSession(server.source, { database: 'postgres' }, async (session) => {
      const [row] = await session.query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
      return row?.id ?? ''
    })
    let stored = 0
    for (const name of names) {
      await copyFile(join(walDirectory, name), join(archive, name))
      await place.ship(join(walDirectory, name), system)
    }
    for (const entry of await readdir(place.root, { recursive: true, withFileTypes: true }))
      if (entry.isFile()) stored += (await stat(join(entry.parentPath, entry.name))).size
    if (user !== null) await runProgram({ program: 'chown', args: ['-R', String(user.uid), place.root, archive] })
    const program = await lifeboatProgram(directory, user, join(import.meta.dirname, '..', '..', 'dist', 'main.js'))
    if (program === null) throw new Error('the OS user of the server may not enter this checkout')
    await copyFile(join(programsDirectory, restoreProgram), join(ground.programs, restoreProgram))
    const config = await repositoriesConfig(directory, [place])
    const ways = [restoreCommand(ground.programs, null, { program, config }), `cp ${archive}/%f "%p"`] as const
    const took: [number[], number[]] = [[], []]
    for (let round = 0; round < recoveries; round += 1)
      for (const index of [0, 1] as const) took[index].push(await recover(ground, ways[index]))
    const [ours, bare] = [Math.min(...took[0]), Math.min(...took[1])]
    const bytes = (await readFile(join(archive, names[0] ?? ''))).length * names.length
    const mebibytes = (size: number) => (size / 2 ** 20).toFixed(0)
    return [
      {
        what: `recovery of ${mebibytes(bytes)} MiB of WAL from a repository (${mebibytes(stored)} MiB) by prefetching restore_command (${ours.toFixed(2)} s) against plain \`cp\` from a local directory (${bare.toFixed(2)} s), speed`,
        measured: `${(bare / ours).toFixed(2)} times`,
        goal: 'at least 0.90',
        met: bare / ours >= 0.9,
      },
    ]
  } finally {
    await server.remove()
    await rm(directory, { recursive: true, force: true })
  }
}
