import { createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { inspectDump } from '../../src/external/inspect.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { type Figure, seconds } from './table.ts'

const rounds = 3
const lineCount = 20_000_000

/** The structural check of 2 GB of plain SQL, compressed, against the test of the compressor's own program. */
export async function benchExternal(base: string): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'external-'))
  try {
    const plain = join(directory, 'app_backup_20260101_020000.sql')
    await pipeline(Readable.from(dumpLines()), createWriteStream(plain))
    await runProgram({ program: 'gzip', args: ['-1', '--keep', plain] })
    await runProgram({ program: 'zstd', args: ['-q', '--keep', plain] })
    await rm(plain)
    return [
      await compare(`${plain}.gz`, 'gzip', ['--test', `${plain}.gz`]),
      await compare(`${plain}.zst`, 'zstd', ['--test', '--quiet', `${plain}.zst`]),
    ]
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function compare(path: string, program: string, args: readonly string[]): Promise<Figure> {
  const ours: number[] = []
  const bare: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    bare.push(await seconds(async () => void (await runProgram({ program, args }))))
    ours.push(
      await seconds(async () => {
        const { state } = await inspectDump(path, { installations: [], signal: new AbortController().signal })
        if (state !== 'sound') throw new Error(`the dump is ${state}`)
      }),
    )
  }
  const ratio = Math.min(...ours) / Math.min(...bare)
  return {
    what: `structural check of a 2 GB ${program} dump against \`${program} --test\` (${Math.min(...bare).toFixed(1)} s)`,
    measured: `${ratio.toFixed(2)} times`,
    goal: '1.30',
    met: ratio <= 1.3,
  }
}

/** About 100 bytes a line, which compress to about a third, as text does. */
function* dumpLines(): Generator<string> {
  yield '--\n-- PostgreSQL database dump\n--\n\ncopy public.generations (id, prompt) from stdin;\n'
  const words = 'amber birch cedar delta ember flint grove heron inlet juniper kelp larch maple north ocean'.split(' ')
  let seed = 1
  for (let line = 0; line < lineCount; line += 5_000) {
    let text = ''
    for (let index = 0; index < 5_000; index += 1) {
      text += `${line + index}\t`
      for (let word = 0; word < 14; word += 1) {
        seed = (seed * 48_271) % 2_147_483_647
        text += `${words[seed % words.length]} `
      }
      text += '\n'
    }
    yield text
  }
  yield '\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n'
}
