import { readdir, readFile, readlink, realpath } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

/** Every child process carries this in its environment: the folder it works in. It is how a leftover is recognised. */
export const workMarker = 'LIFEBOAT_WORK'

/**
 * Ends processes that a killed sidecar left behind: those whose environment names the work folder, and those that have
 * their working directory inside it (a server overwrites the memory that holds its environment with its title).
 * Linux only (/proc); elsewhere it finds nothing. Returns the process ids that were sent SIGKILL, when they are gone: a
 * process that dies, or was forked while we looked, would hold on to the folder or write into it again.
 */
export async function killOrphans(workFolder: string): Promise<readonly number[]> {
  const killed = new Set<number>()
  const realFolder = await realpath(workFolder).catch(() => workFolder)
  for (let look = 0; look < mostLooks; look++) {
    const found = await killOnce(workFolder, realFolder)
    if (found.length === 0) break
    for (const pid of found) killed.add(pid)
    await delay(lookAgainMs)
  }
  return [...killed]
}

/** Together two seconds: what the kernel does not let die by then (it waits for a disk) is left to the next start. */
const mostLooks = 100
const lookAgainMs = 20

async function killOnce(workFolder: string, realFolder: string): Promise<readonly number[]> {
  const killed: number[] = []
  for (const name of await readdir('/proc').catch(() => [])) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    if (!(await belongsTo(pid, workFolder, realFolder))) continue
    try {
      process.kill(pid, 'SIGKILL')
      killed.push(pid)
    } catch {
      // gone meanwhile, or not ours to end: its folder's removal then fails and says so
    }
  }
  return killed
}

/** The kernel gives working directories with every symbolic link resolved. */
async function belongsTo(pid: number, workFolder: string, realFolder: string): Promise<boolean> {
  const [environ, cwd] = await Promise.all([
    readFile(`/proc/${pid}/environ`, 'utf8').catch(() => ''),
    readlink(`/proc/${pid}/cwd`).catch(() => ''),
  ])
  const marker = `${workMarker}=${workFolder}`
  return (
    environ.split('\0').some((line) => line === marker || line.startsWith(`${marker}/`)) ||
    cwd === realFolder ||
    cwd.startsWith(`${realFolder}/`)
  )
}
