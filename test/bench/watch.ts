import { mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { scanDirectory } from '../../src/observe/scan.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { startSidecar } from './sidecar.ts'
import { type Figure, mebibytes, seconds } from './table.ts'

const port = 21_189
const rounds = 5
const dump = '--\n-- PostgreSQL database dump\n--\n\n--\n-- PostgreSQL database dump complete\n--\n'

/** A sidecar over a flat directory of many files of other tools. */
export async function benchWatch(base: string, count: number): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'watch-'))
  const files = join(directory, 'files')
  await mkdir(files)
  try {
    const nameAt = (day: number) =>
      `app${day % 5}_backup_${new Date(Date.UTC(1990, 0, 1) + day * 7_200_000).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '_')}.sql`
    for (let day = 0; day < count; day += 1) {
      const path = join(files, nameAt(day))
      await writeFile(path, dump)
      await utimes(path, new Date(2026, 0, 1), new Date(2026, 0, 1))
    }
    const bare: number[] = []
    const ours: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      bare.push(
        await seconds(async () => {
          let lines = 0
          const args = [files, '-mindepth', '1', '-printf', '%f %s %T@ %C@ %D %i\n']
          await runProgram({ program: 'find', args, onStdoutLine: () => (lines += 1) })
          if (lines !== count) throw new Error(`find saw ${lines}`)
        }),
      )
      ours.push(await seconds(async () => void (await scanDirectory(files, new AbortController().signal))))
    }
    const ratio = Math.min(...ours) / Math.min(...bare)
    const config = JSON.stringify({
      cluster: 'bench',
      listen: `127.0.0.1:${port}`,
      stateDir: join(directory, 'state'),
      watch: [{ directory: files, name: 'local' }],
    })
    const sidecar = await startSidecar(directory, config, port, 'watch:local')
    const shown: number[] = []
    const soundFiles = async () =>
      Number(
        /lifeboat_external_files\{[^}]*state="sound"\} (\d+)/.exec(
          await (await fetch(`${sidecar.url}/metrics`)).text(),
        )?.[1],
      )
    await delay(3_000)
    for (let round = 0; round < rounds; round += 1) {
      const before = await soundFiles()
      const path = join(files, nameAt(count + round))
      await writeFile(`${path}.tmp`, dump)
      const begun = performance.now()
      await rename(`${path}.tmp`, path)
      while ((await soundFiles()) <= before) await delay(20)
      shown.push(performance.now() - begun)
      await delay(1_500)
    }
    const peak = await sidecar.peakBytes()
    await sidecar.stop()
    const amount = count.toLocaleString('en')
    return [
      {
        what: `scan of ${amount} files against \`find -printf\` (${Math.min(...bare).toFixed(2)} s)`,
        measured: `${ratio.toFixed(2)} times`,
        goal: '3.00',
        met: ratio <= 3,
      },
      {
        what: `rename to /metrics beside ${amount} files, read whole, worst of ${rounds}`,
        measured: `${Math.max(...shown).toFixed(0)} ms`,
        goal: '1,000 ms',
        met: Math.max(...shown) <= 1000,
      },
      {
        what: `most resident memory with ${amount} files`,
        measured: mebibytes(peak),
        goal: '200 MiB',
        met: peak <= 200 * 1_048_576,
      },
    ]
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
