import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { toFailure } from '../../src/domain/errors.ts'
import { type ConnectionSource, socketSource, withSession } from '../../src/postgres/connection.ts'
import { type Installation, programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { mkdirOwned } from './archiving-cluster.ts'
import { openDirectory } from './scratch.ts'

/** Starts a server on a data directory that was restored, which replays all that is in an archive; it ends with the test. */
export async function startRestored(
  t: Test,
  dataDirectory: string,
  { installation, archive }: { readonly installation: Installation; readonly archive: string },
): Promise<ConnectionSource> {
  const work = await openDirectory(t)
  const socket = join(work, 's')
  await mkdirOwned(socket)
  const settings = {
    hba_file: join(work, 'hba.conf'),
    ident_file: join(work, 'ident.conf'),
    restore_command: `cp ${archive}/%f %p`,
    ...{ archive_mode: 'off', listen_addresses: '', unix_socket_directories: socket, hot_standby: 'off', fsync: 'off' },
  }
  const config = join(work, 'postgresql.conf')
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`)
  await writeFile(config, lines.join(''))
  await writeFile(settings.hba_file, 'local all all trust\n')
  await writeFile(settings.ident_file, '')
  await writeFile(join(dataDirectory, 'recovery.signal'), '')
  const user = await serverOsUser('postgres')
  const ctl = (...args: readonly string[]) =>
    runProgram({ program: programPath(installation, 'pg_ctl'), args: [`--pgdata=${dataDirectory}`, ...args], user })
  t.teardown(() => ctl('--mode=immediate', 'stop').catch(() => {}))
  if (user !== null) await chown(join(dataDirectory, 'recovery.signal'), user.uid, user.gid)
  const log = join(socket, 'log')
  await ctl('--wait', `--options=-c config_file=${config}`, `--log=${log}`, 'start')
  const source = socketSource({ host: socket, port: 5432, user: 'postgres' })
  await connectable(source)
  return source
}

/** Resolves when the replay is over; the server takes no connection before. */
async function connectable(source: ConnectionSource): Promise<void> {
  for (;;) {
    try {
      return await withSession(source, { database: 'postgres' }, async (session) => {
        await session.query('select 1')
      })
    } catch (error) {
      if (toFailure(error).code !== 'server-unreachable') throw error
      await delay(20)
    }
  }
}
