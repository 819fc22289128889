import { readdir, readFile, readlink } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

export interface Process {
  readonly pid: number
  readonly parent: number
  /** Arguments joined by blanks, or the title that the process gave itself. */
  readonly command: string
}

/** Every process of this machine. Linux only. Takes some milliseconds: who asks in a loop pauses between. */
export async function processes(): Promise<readonly Process[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  return Promise.all(
    names.map(async (name) => {
      const [command, stat] = await Promise.all(
        ['cmdline', 'stat'].map((file) => readFile(`/proc/${name}/${file}`, 'utf8').catch(() => '')),
      )
      // pid (name, which may hold anything) state parent …
      const [, parent = '0'] = (stat ?? '').slice((stat ?? '').lastIndexOf(')') + 2).split(' ')
      return { pid: Number(name), parent: Number(parent), command: (command ?? '').replaceAll('\0', ' ').trim() }
    }),
  )
}

/**
 * The backend of a scratch server below a folder that runs a statement in the database, as soon as there is one; rejects
 * when the work that should start it ends before.
 */
export async function busyBackend(folder: string, database: string, work: Promise<unknown>): Promise<Process> {
  let ended: unknown
  void work.then((outcome) => {
    ended = outcome ?? true
  })
  for (;;) {
    if (ended !== undefined) throw new Error(`it ended before: ${JSON.stringify(ended)}`)
    const all = await processes()
    const servers = all.filter(({ command }) => command.includes(`postgres -D ${folder}`)).map(({ pid }) => pid)
    const found = all.find(
      ({ parent, command }) =>
        servers.includes(parent) && command.includes(` ${database} [local] `) && command.endsWith('SELECT'),
    )
    if (found !== undefined) return found
    await delay(20)
  }
}

/** TCP ports on which a process listens. */
export async function listeningPorts(pid: number): Promise<readonly number[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`)
  const links = await Promise.all(descriptors.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')))
  const inodes = new Set(links.map((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1]))
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')))
  return tables
    .flatMap((text) => text.split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, , , , , , inode]) => state === '0A' && inodes.has(inode))
    .map(([, address = '']) => Number.parseInt(address.split(':')[1] ?? '', 16))
}
