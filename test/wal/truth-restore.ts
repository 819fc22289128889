import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { restoreCommand } from '../../src/postgres/archiving.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { unpackByHand, walByHand } from '../support/by-hand.ts'
import { startCopy } from '../support/copy.ts'
import { configOf, lifeboatProgram } from '../support/lifeboat-program.ts'
import type { WalGround } from '../support/wal-ground.ts'
import { notedIn } from './truth-load.ts'

/** How WAL is brought back: by programs of Lifeboat, or by those that every system has. */
export type Way = 'lifeboat' | 'by hand'

export interface RestoreOptions {
  readonly way: Way
  readonly timeline: number
  /** Nothing was on its way: a hole would be an error. */
  readonly isWhole: boolean
}

/** The repository as it was at one moment. */
export interface RepositoryCopy {
  /** Brings it back up to the end of a timeline, and gives the commits in it. */
  restore(t: Test, options: RestoreOptions): Promise<ReadonlySet<number>>
  remove(): Promise<void>
}

/** Restores from copies of a repository. */
export interface Restorer {
  /** The ways that there are: the server's user may not be allowed to enter this checkout. */
  readonly ways: readonly Way[]
  /** Copies the repository as it is now. */
  readonly copy: () => Promise<RepositoryCopy>
}

export async function restorer({ cluster, archive, root }: WalGround, backupId: string): Promise<Restorer> {
  const { base, user, programs } = archive
  const program = await lifeboatProgram(base, user)
  let copies = 0
  const copy = async (): Promise<RepositoryCopy> => {
    copies += 1
    const byLifeboat = async (program: string, place: string, isWhole: boolean) => {
      const config = await configOf(place, { cluster: 'test', repositories: [{ name: 'local', root: directory }] })
      const command = restoreCommand(programs, null, { program, config })
      // Several segments are stored at once: of those that were on their way a later one may be there without an earlier one.
      return isWhole ? command : command.replace(' "%f"', ' --missing-is-end "%f"')
    }
    const directory = join(base, `copy-${copies}`)
    await runProgram({ program: 'cp', args: ['-a', root, directory] })
    if (user !== null) await runProgram({ program: 'chown', args: ['-R', `${user.uid}:${user.gid}`, directory] })
    let restored = 0
    return {
      async restore(t, { way, timeline, isWhole }) {
        restored += 1
        const place = join(base, `restore-${copies}-${restored}`)
        await mkdir(place, { mode: 0o755 })
        const [data, wal] = [join(place, 'data'), join(place, 'wal')]
        await unpackByHand(join(directory, 'test'), backupId, data)
        if (way === 'by hand') await walByHand(join(directory, 'test'), wal)
        const server = await startCopy(t, {
          ...{ installation: cluster.installation, directory: data, superuser: 'postgres' },
          signalFile: 'recovery.signal',
          settings: {
            restore_command:
              program === null || way === 'by hand' ? byHand(wal) : await byLifeboat(program, place, isWhole),
            ...{ recovery_target_timeline: String(timeline), archive_mode: 'off', hot_standby: 'off' },
          },
        })
        const ids = await notedIn(server.source)
        await server.stop()
        await rm(place, { recursive: true })
        return ids
      },
      remove: () => rm(directory, { recursive: true }),
    }
  }
  return { ways: program === null ? ['by hand'] : ['lifeboat', 'by hand'], copy }
}

function byHand(wal: string): string {
  return `cp '${wal.replaceAll('%', '%%')}/%f' "%p"`
}
