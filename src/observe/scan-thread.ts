import { isUtf8 } from 'node:buffer'
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats, statSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import type { FileFacts } from '../domain/external-file.ts'
import { factsOf, isDumpDirectory } from '../external/file-facts.ts'
import { factsPerName, type Scan, type Task } from './scan.ts'

// Synchronous calls: 50,000 files cost a trip to the thread pool each otherwise, twenty times the call.

function scan(directory: string): Scan {
  const { dev, ino } = statSync(directory)
  const names: string[] = []
  const found = readdirSync(directory)
  const facts = new Float64Array(found.length * factsPerName)
  const add = (name: string, { isDirectory, bytes, modified, changed, device, inode }: FileFacts, misnamed = 0) => {
    const row = [isDirectory ? 1 : 0, bytes, modified, changed, device, inode, misnamed]
    facts.set(row, names.length * factsPerName)
    names.push(name)
  }
  for (const name of found) {
    // Gone meanwhile, or a name that is not UTF-8: looked up by what it looks like, it is not found.
    const one = lookAt(join(directory, name))
    if (one !== null) add(name, one)
  }
  if (found.some((name) => name.includes('\ufffd'))) {
    for (const name of readdirSync(directory, { encoding: 'buffer' })) {
      const one = isUtf8(name) || names.length === found.length ? null : lookAt(bytesJoin(directory, name))
      if (one !== null) add(name.toString(), one, 1)
    }
  }
  return { device: dev, inode: ino, names, facts: facts.subarray(0, names.length * factsPerName) }
}

function bytesJoin(directory: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), name])
}

function lookAt(path: string | Buffer): FileFacts | null {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined || !(stats.isFile() || stats.isDirectory())) return null
  return factsOf(stats, stats.isDirectory() && typeof path === 'string' ? membersOf(path) : [])
}

function membersOf(path: string): readonly Stats[] {
  try {
    const names = readdirSync(path)
    if (!isDumpDirectory(names)) return []
    const members = names.map((name) => lstatSync(join(path, name), { throwIfNoEntry: false }))
    return members.filter((stats) => stats?.isFile() === true) as readonly Stats[]
  } catch {
    return []
  }
}

/**
 * What a process has open for writing among files with one of these last names, as `device:inode`, and files in directories
 * with one of these last names, as `/name`. Processes of other OS users are seen by root alone, those of other containers by
 * nobody in one.
 *
 * Source: proc(5): /proc/pid/fd, /proc/pid/fdinfo
 */
function findWriters(names: ReadonlySet<string>): string[] {
  const found: string[] = []
  for (const pid of listed('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const descriptor of listed(`/proc/${pid}/fd`)) {
      try {
        const path = `/proc/${pid}/fd/${descriptor}`
        const [folder = '', name = ''] = readlinkSync(path).split('/').slice(-2)
        if (!names.has(name) && !names.has(folder)) continue
        const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8'))?.[1]
        // The access mode is in the last two bits: O_WRONLY is 1, O_RDWR 2.
        if ((Number.parseInt(flags ?? '0', 8) & 3) === 0) continue
        const { dev, ino } = statSync(path)
        found.push(`${dev}:${ino}`, `/${folder}`)
      } catch {
        // The process or its file has gone meanwhile.
      }
    }
  }
  return found
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

try {
  const task = workerData as Task
  if (task.what === 'scan') {
    const result = scan(task.directory)
    parentPort?.postMessage({ result }, [result.facts.buffer as ArrayBuffer])
  } else {
    parentPort?.postMessage({ result: findWriters(new Set(task.names)) })
  }
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  parentPort?.postMessage({ code: code ?? '', message })
}
