import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import type { Run } from '../../src/runner/job.ts'
import { unpackByHand, walByHand } from '../support/by-hand.ts'
import { startCopy } from '../support/copy.ts'
import { sourceOf, stopRestored } from '../support/restoring.ts'
import { mainFile } from '../support/sidecar.ts'
import type { WalGround } from '../support/wal-ground.ts'
import { notedIn } from './truth-load.ts'

/** Repository and state directory as they were at one moment. */
export interface RepositoryCopy {
  /** `lifeboat restore`, with these arguments; gives the commits in what it has made. Rejects when it fails. */
  restore(t: Test, args: readonly string[]): Promise<ReadonlySet<number>>
  /** By programs that every system has, from a full backup to the end of a timeline. */
  byHand(t: Test, fullId: string, timeline: number): Promise<ReadonlySet<number>>
  remove(): Promise<void>
}

let copies = 0

/** Copies the repository and what the sidecar has noted as they are now; `yaml` is the configuration of that sidecar. */
export async function copyRepository(ground: WalGround, yaml: string): Promise<RepositoryCopy> {
  const { cluster, archive, root } = ground
  copies += 1
  const place = join(archive.base, `copy-${copies}`)
  const [repository, state, file] = ['repository', 'state', 'lifeboat.yaml'].map((name) => join(place, name)) as [
    string,
    string,
    string,
  ]
  const config = JSON.parse(yaml) as { readonly stateDir: string }
  await mkdir(place, { mode: 0o755 })
  await runProgram({ program: 'cp', args: ['-a', root, repository] })
  await runProgram({ program: 'cp', args: ['-a', config.stateDir, state] })
  const copied = { ...config, stateDir: state, repositories: [{ name: 'local', url: `file://${repository}` }] }
  await writeFile(file, JSON.stringify(copied), { mode: 0o600 })
  let restored = 0
  const nextPlace = async () => {
    restored += 1
    const next = join(place, String(restored))
    await mkdir(next, { mode: 0o755 })
    return next
  }
  return {
    async restore(t, args) {
      const next = await nextPlace()
      const to = join(next, 'data')
      t.teardown(() => stopRestored(cluster, to))
      const running = await startProgram({
        program: process.execPath,
        args: [mainFile, 'restore', '--config', file, '--json', '--to', to, ...args],
      })
      const [told, { code, stderr }] = await Promise.all([text(running.stdout), running.exited])
      if (code !== 0) throw new Error(`lifeboat restore ${args.join(' ')}: ${stderr}${told}`)
      const ids = await notedIn(sourceOf(JSON.parse(told) as Run))
      await stopRestored(cluster, to)
      await rm(next, { recursive: true })
      return ids
    },
    async byHand(t, fullId, timeline) {
      const next = await nextPlace()
      const [data, wal] = [join(next, 'data'), join(next, 'wal')]
      await unpackByHand(join(repository, 'test'), fullId, data)
      await walByHand(join(repository, 'test'), wal)
      const server = await startCopy(t, {
        ...{ installation: cluster.installation, directory: data, superuser: 'postgres' },
        signalFile: 'recovery.signal',
        settings: {
          restore_command: `cp '${wal.replaceAll('%', '%%')}/%f' "%p"`,
          ...{ recovery_target_timeline: String(timeline), archive_mode: 'off', hot_standby: 'off' },
        },
      })
      const ids = await notedIn(server.source)
      await server.stop()
      await rm(next, { recursive: true })
      return ids
    },
    remove: () => rm(place, { recursive: true }),
  }
}
