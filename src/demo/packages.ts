import { constants } from 'node:fs'
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { runProgram } from '../postgres/programs.ts'

/** A Debian package that something here needs. */
export interface NeededPackage {
  readonly package: string
  /** True when what the package brings is there, however it came. */
  readonly present: () => Promise<boolean>
}

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Installs the Debian packages that are missing, where it may: as root, or with a sudo that asks for no password. No
 * service is started and no PostgreSQL cluster is made on the way, whatever the packages would do by themselves.
 * apt-get is not interrupted halfway. Programs are looked for on `path`.
 *
 * @throws LifeboatError `program-missing` with the command to run as its hint, when it may not install or could not
 */
export async function ensurePackages(
  packages: readonly NeededPackage[],
  out: NodeJS.WritableStream,
  path = systemPath,
): Promise<void> {
  const missing = await absent(packages)
  if (missing.length === 0) return
  const names = missing.map((needed) => needed.package)
  const prefix = await rootPrefix(path)
  if (prefix === null || !(await onPath('apt-get', path))) throw notInstalled(names)
  out.write(`installing ${names.join(', ')} with apt-get\n`)
  try {
    await install(names, prefix, path)
  } catch (cause) {
    throw notInstalled(names, cause)
  }
  const still = await absent(missing)
  if (still.length > 0) throw notInstalled(still.map((needed) => needed.package))
}

/** True when a directory of the path has it; by default PATH, and where Debian puts programs. */
export async function onPath(program: string, path = `${process.env.PATH}:${systemPath}`): Promise<boolean> {
  const directories = path.split(':').filter((directory) => directory.startsWith('/'))
  const found = directories.map((directory) => isExecutable(join(directory, program)))
  return (await Promise.all(found)).includes(true)
}

/** True for a file that we may execute. */
export async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

async function absent(packages: readonly NeededPackage[]): Promise<NeededPackage[]> {
  const present = await Promise.all(packages.map((needed) => needed.present()))
  return packages.filter((_, index) => !present[index])
}

function notInstalled(names: readonly string[], cause?: unknown): LifeboatError {
  const why = cause instanceof Error ? ` (${cause.message})` : ''
  return new LifeboatError('program-missing', `not installed: ${names.join(', ')}${why}`, {
    hint: `run: sudo apt-get update && sudo apt-get install --no-install-recommends ${names.join(' ')}`,
    cause,
  })
}

/** What to put before a command so that root runs it; null when that is not possible without asking somebody. */
async function rootPrefix(path: string): Promise<readonly string[] | null> {
  if (userInfo().uid === 0) return []
  const allowed = await runProgram({ program: 'sudo', args: ['-n', 'true'], env: { PATH: path } }).then(
    () => true,
    () => false,
  )
  return allowed ? ['sudo', '-n'] : null
}

async function install(names: readonly string[], prefix: readonly string[], path: string): Promise<void> {
  const asRoot = async (...command: readonly [string, ...string[]]) => {
    const [program, ...args] = [...prefix, ...command] as [string, ...string[]]
    await runProgram({ program, args, env: { PATH: path } })
  }
  // As arguments, since sudo drops the environment.
  const proxies = Object.entries(proxyVariables()).map(([name, value]) => `${name}=${value}`)
  const apt = (...args: readonly string[]) =>
    asRoot(
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      ...proxies,
      'apt-get',
      '-qq',
      '-o',
      'DPkg::Lock::Timeout=300',
      ...args,
    )
  const installNames = () => apt('install', '--yes', '--no-install-recommends', ...names)
  await withoutServices(asRoot, async () => {
    // The lists may be missing, or so old that the mirror no longer has what they name.
    await installNames().catch(async () => {
      await apt('update')
      await installNames()
    })
  })
}

/** The variables that a program needs to reach the network where there is a proxy: our clean environment lacks them. */
export function proxyVariables(): Record<string, string> {
  const names = ['http_proxy', 'https_proxy', 'no_proxy']
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
}

const policy = '/usr/sbin/policy-rc.d'
const clusterPolicy = '/etc/postgresql-common/createcluster.d/lifeboat.conf'

/**
 * Does the work while Debian's two switches for it are set: no service is started by a package, and no cluster is made.
 * Sources: invoke-rc.d(8), pg_createcluster(1). A policy that is there already is left alone. Ours binds nobody once
 * this process has gone, should it not get to removing the file.
 */
async function withoutServices(
  asRoot: (...command: [string, ...string[]]) => Promise<void>,
  work: () => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lifeboat-'))
  const ours: string[] = []
  const put = async (path: string, mode: string, text: string) => {
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      return
    const source = join(folder, 'source')
    await writeFile(source, text)
    ours.push(path)
    await asRoot('install', '-D', `--mode=${mode}`, source, path)
  }
  try {
    await put(policy, '755', `#!/bin/sh\n[ -d /proc/${process.pid} ] && exit 101\nexit 0\n`)
    await put(clusterPolicy, '644', 'create_main_cluster = false\n')
    await work()
  } finally {
    if (ours.length > 0) await asRoot('rm', '-f', '--', ...ours)
    await rm(folder, { recursive: true, force: true })
  }
}
