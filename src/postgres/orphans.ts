import { readdir, readFile, readlink, realpath } from 'node:fs/promises'

/** Every child process carries this in its environment: the folder it works in. It is how a leftover is recognised. */
export const workMarker = 'LIFEBOAT_WORK'

/**
 * Ends processes that a killed sidecar left behind: those whose environment names the work folder, and those that have
 * their working directory inside it (a server overwrites the memory that holds its environment with its title).
 * Linux only (/proc); elsewhere it finds nothing. Returns the process ids that were sent SIGKILL.
 */
export async function killOrphans(workFolder: string): Promise<readonly number[]> {
  const killed: number[] = []
  const realFolder = await realpath(workFolder).catch(() => workFolder)
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
