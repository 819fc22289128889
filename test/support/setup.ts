/**
 * What `npm test` runs first: sees to it that the machine has what the tests need. Nothing to do takes a few
 * milliseconds. Exits 2, with the command to run, when a package is missing and may not be installed.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { removeLeftovers } from '../../src/demo/leftovers.ts'
import { ensurePackages, isExecutable, onPath, proxyVariables } from '../../src/demo/packages.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { findInstallations } from '../../src/postgres/installations.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { cacheDirectory, cephPrograms, unpackedBinDir, unpackedRoot, whyNoCephFile, whyNotFile } from './cache.ts'
import { scratchPrefix, unmount } from './scratch.ts'

try {
  // Servers, mounts and directories of test runs that were killed. Most directories are no mounts.
  await removeLeftovers(scratchPrefix, (directory) => unmount(directory).catch(() => {}))
  await ensurePackages(
    [
      { package: 'postgresql-15', present: () => hasServer(15, '/usr/lib/postgresql/15/bin') },
      { package: 'prometheus', present: () => onPath('promtool') },
      { package: 'prometheus-alertmanager', present: () => onPath('prometheus-alertmanager') },
      { package: 'faketime', present: () => onPath('faketime') },
      { package: 'zstd', present: () => onPath('zstd') },
      { package: 'age', present: () => onPath('age') },
      // What others pack their dumps with, and what signatures and certificates are made with.
      { package: 'xz-utils', present: () => onPath('xz') },
      { package: 'bzip2', present: () => onPath('bzip2') },
      { package: 'lz4', present: () => onPath('lz4') },
      { package: 'openssl', present: () => onPath('openssl') },
      // What checks the unit in examples/.
      { package: 'systemd', present: () => onPath('systemd-analyze') },
      // What draws the dashboards.
      { package: 'chromium', present: () => onPath('chromium') },
      { package: 'libarchive-tools', present: () => onPath('bsdtar') },
    ],
    process.stdout,
  )
  await ensurePostgres(17, ['trixie'])
  await ensurePostgresIfCan(18, ['forky', 'sid'])
  await ensureCephIfCan()
} catch (error) {
  if (!(error instanceof LifeboatError)) throw error
  process.stderr.write(`error: ${error.message}\n${error.hint ? `hint: ${error.hint}\n` : ''}`)
  process.exitCode = error.code === 'program-missing' ? 2 : 1
}

/** Unpacks a major from the first of these Debian suites that has it. */
async function ensurePostgres(major: number, suites: readonly string[]): Promise<void> {
  if (await hasServer(major, unpackedBinDir(major))) return
  await ensurePackages(
    ['patchelf', 'file'].map((name) => ({ package: name, present: () => onPath(name) })),
    process.stdout,
  )
  const script = join(import.meta.dirname, 'postgres-from-debian.sh')
  const failures: LifeboatError[] = []
  for (const suite of suites) {
    process.stdout.write(`unpacking PostgreSQL ${major} of Debian ${suite} into ${unpackedRoot(major)}\n`)
    const args = [script, suite, String(major), unpackedRoot(major)]
    try {
      await runProgram({ program: 'bash', args, env: proxyVariables() })
      return
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error
      failures.push(error)
    }
  }
  const why = failures.map((failure, index) => `${suites[index]}: ${failure.message}`).join('; ')
  throw new LifeboatError('program-missing', `PostgreSQL ${major} could not be unpacked from Debian (${why})`, {
    hint: `install PostgreSQL ${major} by hand: the tests use it wherever it is`,
    cause: failures[0],
  })
}

/**
 * The same for a major that no released Debian has. Suites that are still in the making drop what they had: that must fail
 * no tests. Those for this major are skipped then, and name the reason that is noted here.
 */
async function ensurePostgresIfCan(major: number, suites: readonly string[]): Promise<void> {
  await noteWhyNot(`PostgreSQL ${major}`, whyNotFile(major), () => ensurePostgres(major, suites))
}

/** An S3 server. Not every system has one among its packages: the tests that need it are skipped there, and say why. */
async function ensureCephIfCan(): Promise<void> {
  const packages = ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common', 'uuid-runtime']
  const needed = packages.map((name, index) => ({ package: name, present: () => onPath(cephPrograms[index] ?? name) }))
  await noteWhyNot('an S3 server', whyNoCephFile(), () => ensurePackages(needed, process.stdout))
}

/** Does what may fail without failing the tests, and notes why it did. */
async function noteWhyNot(what: string, file: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
    await rm(file, { force: true })
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    process.stdout.write(`WARNING: the tests for ${what} will be skipped: ${error.message}\n`)
    await mkdir(cacheDirectory(), { recursive: true })
    await writeFile(file, error.message)
  }
}

async function hasServer(major: number, usualPlace: string): Promise<boolean> {
  if (await isExecutable(join(usualPlace, 'postgres'))) return true
  return (await findInstallations(null)).some((installation) => installation.major === major && installation.server)
}
