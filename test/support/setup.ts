/**
 * What `npm test` runs first: sees to it that the machine has what the tests need. Nothing to do takes a few
 * milliseconds. Exits 2, with the command to run, when a package is missing and may not be installed.
 */
import { join } from 'node:path'
import { removeLeftovers } from '../../src/demo/leftovers.ts'
import { ensurePackages, isExecutable, onPath, proxyVariables } from '../../src/demo/packages.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { findInstallations } from '../../src/postgres/installations.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { unpackedBinDir, unpackedRoot } from './cache.ts'
import { scratchPrefix, unmount } from './scratch.ts'

try {
  // Servers, mounts and directories of test runs that were killed. Most directories are no mounts.
  await removeLeftovers(scratchPrefix, (directory) => unmount(directory).catch(() => {}))
  await ensurePackages(
    [
      { package: 'postgresql-15', present: () => hasServer(15, '/usr/lib/postgresql/15/bin') },
      { package: 'prometheus', present: () => onPath('promtool') },
      { package: 'faketime', present: () => onPath('faketime') },
      { package: 'zstd', present: () => onPath('zstd') },
      // What others pack their dumps with, and what signatures and certificates are made with.
      { package: 'xz-utils', present: () => onPath('xz') },
      { package: 'bzip2', present: () => onPath('bzip2') },
      { package: 'lz4', present: () => onPath('lz4') },
      { package: 'openssl', present: () => onPath('openssl') },
    ],
    process.stdout,
  )
  await ensurePostgres17()
} catch (error) {
  if (!(error instanceof LifeboatError)) throw error
  process.stderr.write(`error: ${error.message}\n${error.hint ? `hint: ${error.hint}\n` : ''}`)
  process.exitCode = error.code === 'program-missing' ? 2 : 1
}

async function ensurePostgres17(): Promise<void> {
  if (await hasServer(17, unpackedBinDir(17))) return
  await ensurePackages(
    ['patchelf', 'file'].map((name) => ({ package: name, present: () => onPath(name) })),
    process.stdout,
  )
  process.stdout.write(`unpacking PostgreSQL 17 into ${unpackedRoot(17)}\n`)
  const script = join(import.meta.dirname, 'postgres-from-debian.sh')
  await runProgram({ program: 'bash', args: [script, 'trixie', '17', unpackedRoot(17)], env: proxyVariables() })
}

async function hasServer(major: number, usualPlace: string): Promise<boolean> {
  if (await isExecutable(join(usualPlace, 'postgres'))) return true
  return (await findInstallations(null)).some((installation) => installation.major === major && installation.server)
}
