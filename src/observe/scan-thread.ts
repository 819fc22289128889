import { lstatSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { factsPerName, type Scan } from './scan.ts'

/** Synchronous calls: 50,000 files cost a trip to the thread pool each otherwise, twenty times the call. */
function scan(directory: string): Scan {
  const { dev, ino } = statSync(directory)
  const names: string[] = []
  const found = readdirSync(directory)
  const facts = new Float64Array(found.length * factsPerName)
  for (const name of found) {
    // Gone meanwhile, or a name that is not UTF-8: looked up by what it looks like, it is not found.
    const stats = lstatSync(join(directory, name), { throwIfNoEntry: false })
    if (stats === undefined || !(stats.isFile() || stats.isDirectory())) continue
    facts.set(
      [stats.isDirectory() ? 1 : 0, stats.size, stats.mtimeMs, stats.ctimeMs, stats.dev, stats.ino],
      names.length * factsPerName,
    )
    names.push(name)
  }
  return { device: dev, inode: ino, names, facts: facts.subarray(0, names.length * factsPerName) }
}

try {
  const result = scan((workerData as { directory: string }).directory)
  parentPort?.postMessage({ result }, [result.facts.buffer as ArrayBuffer])
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  parentPort?.postMessage({ code: code ?? '', message })
}
