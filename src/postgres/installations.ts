import { access, readdir, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { runProgram } from './programs.ts'

/** One directory with PostgreSQL's programs. */
export interface Installation {
  readonly directory: string
  readonly major: number
  /** As `--version` gives it, e.g. `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly version: string
  /** True when it can run a server (initdb and postgres are there), not only clients. */
  readonly server: boolean
}

const parents = ['/usr/lib/postgresql', '/usr/local/lib/postgresql', '/opt/postgresql']
const singles = ['/usr/local/pgsql/bin', '/usr/local/bin', '/usr/bin']

/**
 * Every installation of PostgreSQL's programs that can be found: the configured directory first, then versions beside
 * it, PATH, and the places where distributions put them. Debian's `pg_wrapper` (/usr/bin/pg_dump) is passed over: it
 * picks a version by its own rules.
 *
 * @throws LifeboatError `program-missing` when the configured directory holds no programs: what is found elsewhere is not
 * what was asked for
 */
export async function findInstallations(
  binDir: string | null,
  path = process.env.PATH ?? '',
): Promise<readonly Installation[]> {
  const candidates = [
    ...(binDir === null ? [] : [binDir, ...(await siblings(dirname(dirname(binDir))))]),
    ...path.split(':').filter((directory) => directory.startsWith('/')),
    ...(await Promise.all(parents.map(siblings))).flat(),
    ...singles,
  ]
  const directories = await Promise.all(candidates.map((candidate) => realpath(candidate).catch(() => null)))
  const distinct = [...new Set(directories)].filter((one) => one !== null)
  const installations = (await Promise.all(distinct.map(inspect))).filter((one) => one !== null)
  if (binDir !== null && !installations.some(({ directory }) => directory === directories[0])) throw nothingIn(binDir)
  return installations
}

function nothingIn(binDir: string): LifeboatError {
  return new LifeboatError('program-missing', `postgres.binDir ${binDir} holds no pg_dump that can be run`, {
    hint: 'set it to the directory of the programs themselves, e.g. /usr/lib/postgresql/15/bin, or leave it out',
  })
}

/**
 * The installation whose pg_dump may dump a server of this major version: the same major, else the lowest newer one.
 * (pg_dump refuses servers newer than itself; a dump by a newer one restores into its own major or later.)
 *
 * @throws LifeboatError `program-missing`, `client-too-old`
 */
export function chooseClient(installations: readonly Installation[], serverMajor: number): Installation {
  const fitting = installations.filter(({ major }) => major >= serverMajor)
  const [best] = fitting.toSorted((a, b) => a.major - b.major)
  if (best !== undefined) return best
  const newest = installations.toSorted((a, b) => b.major - a.major)[0]
  const hint = `install postgresql-client-${serverMajor}, or set postgres.binDir to its directory`
  if (newest === undefined) throw new LifeboatError('program-missing', 'no pg_dump was found', { hint })
  throw new LifeboatError(
    'client-too-old',
    `the server is PostgreSQL ${serverMajor}, but the newest pg_dump here is ${newest.version}`,
    { hint },
  )
}

/**
 * The installation that can run a scratch server of exactly this major version.
 *
 * @throws LifeboatError `program-missing`
 */
export function chooseServer(installations: readonly Installation[], major: number): Installation {
  const found = installations.find((installation) => installation.server && installation.major === major)
  if (found !== undefined) return found
  throw new LifeboatError('program-missing', `no PostgreSQL ${major} server programs (initdb, postgres) were found`, {
    hint: `install postgresql-${major}, or set postgres.binDir to its directory`,
  })
}

/** The full path of one program of an installation. */
export function programPath(installation: Installation, name: string): string {
  return join(installation.directory, name)
}

async function siblings(parent: string): Promise<string[]> {
  const names = await readdir(parent).catch(() => [])
  return names.filter((name) => /^(pgsql-)?\d+$/.test(name)).map((name) => join(parent, name, 'bin'))
}

async function inspect(directory: string): Promise<Installation | null> {
  const dump = join(directory, 'pg_dump')
  const target = await realpath(dump).catch(() => null)
  if (target === null || basename(target) === 'pg_wrapper') return null
  try {
    const { stdout } = await runProgram({ program: dump, args: ['--version'] })
    const match = /\(PostgreSQL\) ((\d+).*)/.exec(stdout)
    if (match === null) return null
    const server = await Promise.all(['initdb', 'postgres'].map((name) => access(join(directory, name)))).then(
      () => true,
      () => false,
    )
    return { directory, major: Number(match[2]), version: (match[1] as string).trim(), server }
  } catch {
    return null // not runnable here (another architecture, missing libraries): as good as absent
  }
}
