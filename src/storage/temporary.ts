import { createHash, randomBytes } from 'node:crypto'
import { lstat, opendir, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { kill, pid } from 'node:process'
import { hasCode, isMissing } from './failures.ts'

/** The folder, below the root and so on its file system, in which objects are written until they get their name. */
export const temporaryFolder = '.lifeboat-tmp'

/** A file of a process that cannot be looked up (another host or container) is given up when unchanged for so long. */
const abandonedAfterMs = 24 * 3600 * 1000

const namePattern = /^put-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{12}$/

/**
 * A new name, `put-<where>-<process id>-<its start>-<random>`: it tells later whether its writer is still alive.
 * `where` stands for host, its start and PID namespace: only there does the process id mean anything.
 */
export async function temporaryName(): Promise<string> {
  return `put-${await processSpace()}-${pid}-${(await startOf(pid)) ?? 0}-${randomBytes(6).toString('hex')}`
}

/**
 * Removes the files, and directories of files, that killed writers left in the folder: those whose process has ended, and those of processes
 * elsewhere that have not changed for a day (none, where now is null). Files of other names are not touched. Returns the
 * names removed.
 */
export async function removeAbandoned(folder: string, now: Date | null): Promise<string[]> {
  const removed: string[] = []
  for await (const { name } of await opendir(folder)) {
    const match = namePattern.exec(name)
    if (match === null) continue
    const path = join(folder, name)
    try {
      const writer = { space: match[1] ?? '', pid: Number(match[2]), start: Number(match[3]) }
      const ended = writer.space === (await processSpace()) && !(await isAlive(writer.pid, writer.start))
      if (!ended && (now === null || now.getTime() - (await changedAt(path)) < abandonedAfterMs)) continue
      await rm(path, { recursive: true })
      removed.push(name)
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  return removed
}

/** When a file, or one in a directory, was written to last, milliseconds since 1970. */
async function changedAt(path: string): Promise<number> {
  const found = await lstat(path)
  if (!found.isDirectory()) return found.mtimeMs
  const within = await Promise.all((await readdir(path)).map(async (name) => (await lstat(join(path, name))).mtimeMs))
  return Math.max(found.mtimeMs, ...within)
}

/**
 * Eight hex digits that differ between hosts, also of one name, and between containers of one host. Names of hosts and
 * numbers of namespaces do not tell them apart: the first namespace has the same number everywhere.
 */
async function processSpace(): Promise<string> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '')
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => '')
  return createHash('sha256').update(`${hostname()} ${namespace} ${boot}`).digest('hex').slice(0, 8)
}

/** True unless the process is known to have ended, or to be another one that got the same id since. */
async function isAlive(id: number, start: number): Promise<boolean> {
  try {
    // Signal 0 is never delivered: it only asks whether the process is there (kill(2)).
    kill(id, 0)
  } catch (error) {
    return !hasCode(error, 'ESRCH')
  }
  const found = await startOf(id)
  return found === null || start === 0 || found === start
}

/** When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat, proc(5)); null where that is not told. */
async function startOf(id: number): Promise<number | null> {
  const stat = await readFile(`/proc/${id}/stat`, 'latin1').catch(() => '')
  // The second field is the program's name in parentheses and may hold anything: count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = Number(fields[19])
  return Number.isSafeInteger(ticks) && stat !== '' ? ticks : null
}
