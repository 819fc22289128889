import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ConnectionSource, socketSource } from '../postgres/connection.ts'
import { programPath } from '../postgres/installations.ts'
import { serverOsUser } from '../postgres/os-user.ts'
import { runProgram } from '../postgres/programs.ts'
import type { ScratchServer } from '../postgres/scratch-server.ts'

/** How the server of a data directory is reached; null: there is none. Source: src/include/utils/pidfile.h */
export async function sourceOf(dataDirectory: string): Promise<ConnectionSource | null> {
  const text = await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')
  const [, , , port, host] = text.split('\n')
  return port === undefined || host === undefined ? null : socketSource({ host, port: Number(port), user: 'postgres' })
}

/** What was restored outlives the run that has done it. */
export async function stopRestored({ installation }: ScratchServer, dataDirectory: string): Promise<void> {
  const source = await sourceOf(dataDirectory)
  if (source === null) return
  await runProgram({
    program: programPath(installation, 'pg_ctl'),
    args: [`--pgdata=${dataDirectory}`, '--mode=immediate', 'stop'],
    user: await serverOsUser('postgres'),
  })
  // It lies elsewhere where the path would be too long for a socket.
  await rm(source.host, { recursive: true, force: true })
}
