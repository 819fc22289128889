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

/** Follows the RESTORE.md of a backup. */
export async function followInstructions(t: Test, folder: string, programs: string, key?: string) {
  const text = await readFile(join(folder, 'RESTORE.md'), 'utf8')
  const files = await readdir(folder)
  const { said, ...restored } = await follow(t, { text, folder, programs, ...(key === undefined ? {} : { key }) })
  t.match(said, /base\.tar\.zst(?:\.age)?: OK/)
  t.same(await readdir(folder), files, 'nothing is done in the repository')
  return restored
}

/** Follows a section of a page of docs/, with these values in place of its examples (`name=…` at the beginning of a line). */
export async function followPage(
  t: Test,
  {
    page,
    section,
    values,
    programs,
  }: {
    readonly page: string
    readonly section: string
    readonly values: Readonly<Record<string, string>>
    readonly programs: string
  },
) {
  const text = await readFile(new URL(`../../docs/${page}`, import.meta.url), 'utf8')
  const [, whole = ''] = text.split(`\n## ${section}\n`)
  let [own = ''] = whole.split('\n## ')
  for (const [name, value] of Object.entries(values)) {
    const line = new RegExp(`^${name}=.*$`, 'm')
    if (!line.test(own)) t.fail(`${page} has no example of ${name}`)
    own = own.replace(line, () => `${name}='${value.replaceAll("'", "'\\''")}'`)
  }
  return follow(t, { text: own, folder: '/', programs })
}

/** Carries out the blocks in one shell, as a person would, and the start, which is the last, as the OS user of the server. */
async function follow(
  t: Test,
  {
    text,
    folder,
    programs,
    key,
  }: { readonly text: string; readonly folder: string; readonly programs: string; readonly key?: string },
) {
  const blocks = [...text.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block = '']) => block)
  const start = blocks.pop() ?? ''
  const TMPDIR = await scratchDirectory(t)
  const env = {
    ...{ PATH: `${programs}:/usr/bin:/bin:/usr/sbin:/sbin`, TMPDIR },
    ...(key === undefined ? {} : { LIFEBOAT_KEY: key }),
  }
  const { stdout } = await run('bash', ['-c', `${blocks.join('\n')}\necho "work=$work data=$data"`], {
    cwd: folder,
    env,
  })
  const [, work = '', data = ''] = /^work=(.*) data=(.*)$/m.exec(stdout) ?? []
  const user = await serverOsUser('postgres')
  const asServer = (script: string) => {
    const args = ['-c', script]
    const own = { cwd: '/', env: { ...env, work, data } }
    return user === null ? run('bash', args, own) : run('runuser', ['-u', user.name, '--', 'bash', ...args], own)
  }
  if (user !== null) await run('chown', ['-R', user.name, work])
  t.teardown(() => asServer('pg_ctl --pgdata="$data" --mode=immediate stop'))
  const started = await asServer(start)
  if (/FATAL|PANIC/.test(started.stdout)) t.fail(`the server ended: ${started.stdout}`)
  return {
    data,
    source: socketSource({ host: work, port: 5432, user: 'postgres' }),
    said: `${stdout}${started.stdout}`,
  }
}
