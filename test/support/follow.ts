import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { socketSource } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import type { Cluster } from './postgres.ts'
import { scratchDirectory } from './scratch.ts'
import type { Sidecar } from './sidecar.ts'

const run = promisify(execFile)

/** Resolves when all that the cluster has written by now is stored. */
export async function allShipped(cluster: Cluster, sidecar: Sidecar): Promise<void> {
  await cluster.sql('select pg_switch_wal()')
  const [end] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
  const [system] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  await shippedBefore(cluster, sidecar, system?.id ?? '', end?.name ?? '')
}

/** Resolves when the segment before this one is stored. */
async function shippedBefore(
  cluster: Cluster,
  sidecar: Sidecar,
  systemIdentifier: string,
  name: string,
): Promise<void> {
  const previous = `${name.slice(0, 16)}${(Number.parseInt(name.slice(16), 16) - 1).toString(16).padStart(8, '0').toUpperCase()}`
  while ((await sidecar.repository.wal.ofSegment(systemIdentifier, previous)).length === 0)
    await cluster.sql('select pg_sleep(0.02)')
}

/** Carries out the blocks in one shell, as a person would, and the start as the OS user of the server. */
export async function followInstructions(t: Test, folder: string, programs: string) {
  const text = await readFile(join(folder, 'RESTORE.md'), 'utf8')
  const files = await readdir(folder)
  const blocks = [...text.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block = '']) => block)
  const start = blocks.pop() ?? ''
  const TMPDIR = await scratchDirectory(t)
  const env = { PATH: `${programs}:/usr/bin:/bin:/usr/sbin:/sbin`, TMPDIR }
  const { stdout } = await run('bash', ['-c', `${blocks.join('\n')}\necho "work=$work data=$data"`], {
    cwd: folder,
    env,
  })
  t.match(stdout, /base\.tar\.zst: OK/)
  t.same(await readdir(folder), files, 'nothing is done in the repository')
  const [, work = '', data = ''] = /^work=(.*) data=(.*)$/m.exec(stdout) ?? []
  const user = await serverOsUser('postgres')
  const asServer = (script: string) => {
    const args = ['-c', script]
    const own = { cwd: '/', env: { ...env, work, data } }
    return user === null ? run('bash', args, own) : run('runuser', ['-u', user.name, '--', 'bash', ...args], own)
  }
  if (user !== null) await run('chown', ['-R', user.name, work])
  t.teardown(() => asServer('pg_ctl --pgdata="$data" --mode=immediate stop'))
  const said = await asServer(start)
  if (/FATAL|PANIC/.test(said.stdout)) t.fail(`the server ended: ${said.stdout}`)
  return { data, source: socketSource({ host: work, port: 5432, user: 'postgres' }) }
}
