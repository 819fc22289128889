import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import type { ValidatedConfig } from '../config/validated.ts'
import { diskFailure, freeBytes } from '../jobs/work-folder.ts'
import { LocalStorage } from '../storage/local.ts'
import type { Storage } from '../storage/storage.ts'
import { checkBucket } from './bucket.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** Looks at the work folder and every repository by really writing, and at the room that is left. */
export async function checkPlaces(
  config: ValidatedConfig,
  largestDatabaseBytes: number,
  checkIdentity: (repository: string) => Promise<unknown>,
  bucketOf: (repository: string) => Storage,
): Promise<readonly Finding[]> {
  const found = [...(await looked('work folder', () => checkWorkFolder(config, largestDatabaseBytes)))]
  const usable: { readonly name: string; readonly path: string }[] = []
  for (const repository of config.repositories) {
    const { name, path } = repository
    const look = async () => {
      await checkIdentity(name)
      return path === null ? checkBucket(repository, bucketOf(name)) : checkRepository(name, path, largestDatabaseBytes)
    }
    const findings = await looked('repository', look, name)
    if (path !== null && findings.every(({ status }) => status !== 'error')) usable.push({ name, path })
    found.push(...findings)
  }
  return [...found, ...(await looked('repository', () => checkDevices(usable)))]
}

async function checkWorkFolder(
  { workDir }: ValidatedConfig,
  largestDatabaseBytes: number,
): Promise<readonly Finding[]> {
  const probe = join(workDir, `check-${randomBytes(4).toString('hex')}`)
  try {
    await mkdir(workDir, { recursive: true })
    await writeFile(probe, randomBytes(64 * 1024))
  } catch (error) {
    throw diskFailure(error, `cannot write in ${workDir}`)
  } finally {
    await rm(probe, { force: true }).catch(() => {})
  }
  const free = await freeBytes(workDir)
  // A verification holds the unpacked dump and the restored copy at once.
  if (free < largestDatabaseBytes * 1.5) {
    return [
      warning(
        'work folder',
        `${workDir} has ${megabytes(free)} free, but the largest database has ${megabytes(largestDatabaseBytes)}`,
        'set workDir to a larger disk, or test restores will be inconclusive',
      ),
    ]
  }
  return [ok('work folder', `${workDir} can be written, ${megabytes(free)} free`)]
}

async function checkRepository(name: string, path: string, largestDatabaseBytes: number): Promise<readonly Finding[]> {
  const storage = new LocalStorage({ root: path })
  const missing = (await storage.exists()) ? null : await checkParent(name, path)
  if (missing !== null) return [missing]
  const key = `.lifeboat-check-${randomBytes(6).toString('hex')}`
  const body = randomBytes(64)
  await storage.put(key, body, { ifAbsent: true })
  try {
    const read = await readFile(join(path, key))
    if (!read.equals(body))
      return [
        problem(
          'repository',
          `${name}: what was read is not what was written`,
          'look at the disk: do not trust it with backups',
        ),
      ]
  } finally {
    await storage.remove(key)
  }
  const { freeBytes: free } = await storage.capacity()
  if (free < largestDatabaseBytes) {
    return [
      warning(
        'repository',
        `${name}: ${megabytes(free)} free in ${path}, less than the largest database`,
        'make room before the next backup',
      ),
    ]
  }
  return [ok('repository', `${name}: ${path} can be written and read, ${megabytes(free)} free`)]
}

/** A repository that is not there yet: its first backup makes the directory, but not those above it. */
async function checkParent(name: string, path: string): Promise<Finding> {
  const parent = dirname(path)
  const nearest = await nearestThere(parent)
  if (nearest !== parent) {
    return problem(
      'repository',
      `${name}: ${path} cannot be made: there is no directory ${parent}, only ${nearest}`,
      `mount what belongs there, or make it: mkdir -p ${parent}`,
    )
  }
  try {
    await access(parent, constants.W_OK | constants.X_OK)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const user = userInfo().username
    return problem(
      'repository',
      `${name}: ${path} cannot be made: ${message}`,
      code === 'EROFS'
        ? 'the file system is mounted read-only: look for errors in the kernel log, then remount it'
        : `make it for the OS user of lifeboat: install -d -o ${user} -m 0700 ${path}`,
    )
  }
  return ok('repository', `${name}: the first backup makes ${path}, ${megabytes(await freeBytes(parent))} free`)
}

/** The longest part of the path that is a directory. */
export async function nearestThere(path: string): Promise<string> {
  for (let part = path; ; part = dirname(part)) {
    const found = await stat(part).catch(() => null)
    if (found?.isDirectory() || part === dirname(part)) return part
  }
}

/** Copies on one disk are lost together. */
async function checkDevices(
  repositories: readonly { readonly name: string; readonly path: string }[],
): Promise<readonly Finding[]> {
  const devices = await Promise.all(
    repositories.map(async ({ name, path }) => ({ name, device: (await stat(await nearestThere(path))).dev })),
  )
  return devices.flatMap(({ name, device }, index) => {
    const other = devices.slice(0, index).find((one) => one.device === device)
    return other === undefined
      ? []
      : [
          warning(
            'repository',
            `${name} and ${other.name} are on the same disk`,
            'put one of them on another disk or machine',
          ),
        ]
  })
}

export function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1_048_576).toLocaleString('en')} MiB`
}
