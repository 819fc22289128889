import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { OsUser } from '../../src/postgres/programs.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { mainFile } from './sidecar.ts'
import { storedCluster } from './stored.ts'
import type { WalRepository } from './wal-repository.ts'

/** `lifeboat` as a program for the server's OS user; null where that user may not enter this checkout. */
export async function lifeboatProgram(directory: string, user: OsUser | null, main = mainFile): Promise<string | null> {
  const program = join(directory, 'lifeboat')
  await writeFile(
    program,
    `#!/bin/sh\nunset NODE_OPTIONS NODE_EXTRA_CA_CERTS\nexec '${process.execPath}' '${main}' "$@"\n`,
    {
      mode: 0o755,
    },
  )
  const running = await startProgram({ program, args: ['--version'], user })
  running.stdout.resume()
  return (await running.exited).code === 0 ? program : null
}

/** For processes that a test kills: nothing of what tap gives to those it starts, but the cache of compiled code. */
export function bareEnvironment(): Record<string, string> {
  const { NODE_COMPILE_CACHE: cache } = process.env
  return cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }
}

export const closedCheckout = 'the OS user of the server may not enter this checkout'

/** A configuration with nothing but repositories. */
export function repositoriesConfig(
  directory: string,
  places: readonly WalRepository[],
  encryption?: object,
): Promise<string> {
  const repositories = places.map(({ root, repository: { name } }) => ({ name, root }))
  return configOf(directory, { cluster: storedCluster, repositories, ...(encryption ? { encryption } : {}) })
}

/** Writes a configuration for `lifeboat wal fetch`, for everybody to read, and gives its path. */
export async function configOf(
  directory: string,
  config: {
    readonly cluster: string
    readonly repositories: readonly { readonly name: string; readonly root: string }[]
    readonly encryption?: object
  },
): Promise<string> {
  const path = join(directory, 'lifeboat-fetch.yaml')
  const repositories = config.repositories.map(({ name, root }) => ({ name, url: `file://${encodeURI(root)}` }))
  await writeFile(path, JSON.stringify({ ...config, repositories }), { mode: 0o644 })
  return path
}
