import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type ConnectionSource, withSession } from '../../src/postgres/connection.ts'
import type { Installation } from '../../src/postgres/installations.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type RunningProgram, runProgram, startProgram } from '../../src/postgres/programs.ts'
import type { Cluster } from './postgres.ts'
import { untilAnswer } from './until.ts'

/** A server on a copy of a cluster's files. */
export interface CopyServer {
  readonly source: ConnectionSource
  sql<Row extends object = Record<string, unknown>>(text: string): Promise<Row[]>
  stop(): Promise<void>
}

/**
 * Copies the files of a running cluster into a new directory, which its server's OS user must be able to enter. The cluster
 * needs `local replication all trust`.
 */
export async function copyCluster(cluster: Cluster, directory: string, args: readonly string[] = []): Promise<void> {
  const user = await serverOsUser('postgres')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  if (user !== null) await chown(directory, user.uid, user.gid)
  const { host, port, user: name } = cluster.source
  const where = ['-D', directory, '-c', 'fast', '-h', host, '-p', String(port), '-U', name]
  const program = programPath(cluster.installation, 'pg_basebackup')
  await runProgram({ program, args: [...where, ...args], user, cwd: directory })
}

/** Starts a server on such a copy: as a standby, or in a recovery, as `signalFile` says. */
export async function startCopy(
  t: Test,
  options: {
    readonly installation: Installation
    readonly directory: string
    readonly superuser: string
    readonly signalFile: 'standby.signal' | 'recovery.signal'
    readonly settings: Readonly<Record<string, string>>
  },
): Promise<CopyServer> {
  const { installation, directory, superuser } = options
  const user = await serverOsUser('postgres')
  const sockets = `${directory}-s`
  await mkdir(sockets, { recursive: true })
  await chmod(sockets, 0o777)
  const signal = join(directory, options.signalFile)
  await writeFile(signal, '')
  if (user !== null) await chown(signal, user.uid, user.gid)
  const settings = { unix_socket_directories: sockets, listen_addresses: '', fsync: 'off', ...options.settings }
  const running: RunningProgram = await startProgram({
    program: programPath(installation, 'postgres'),
    args: ['-D', directory, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    user,
    cwd: directory,
  })
  running.stdout.resume()
  const stop = async () => {
    running.kill('SIGQUIT')
    await running.exited
    await killOrphans(directory)
  }
  t.teardown(stop)
  const source: ConnectionSource = {
    ...{ host: sockets, port: 5432, user: superuser, password: null, connectTimeoutMs: 10_000 },
    ...{ sslMode: 'disable', sslRootCert: null },
  }
  const sql = <Row extends object>(text: string) =>
    withSession(source, { database: 'postgres' }, (session) => session.query<Row>(text))
  const said = running.exited.then(({ stderr }) => {
    throw new Error(`the copy has ended: ${stderr.slice(-2000)}`)
  })
  said.catch(() => {})
  const isUp = () =>
    sql('select 1').then(
      () => true,
      () => false,
    )
  await Promise.race([untilAnswer('the copy answers', isUp), said])
  return { source, sql, stop }
}
