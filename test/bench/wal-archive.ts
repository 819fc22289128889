import { spawn } from 'node:child_process'
import { closeSync, ftruncateSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { defaultSegmentSize, segmentName } from '../../src/domain/wal.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { putSegment } from '../support/wal-segments.ts'
import { type Figure, mebibytes, median, percentile, scrape, seconds } from './table.ts'

const port = 21_191
const rounds = 5
const arrivals = 40
const burst = 100_000
const few = 1_000

/** An archive of many sparse segments, on two timelines, watched by a process of its own. */
export async function benchWalArchive(base: string, count: number): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'wal-archive-'))
  const [large, small] = [join(directory, 'large'), join(directory, 'small')]
  await fill(large, count)
  await fill(small, few)
  const url = `http://127.0.0.1:${port}`
  const script = join(import.meta.dirname, 'wal-archive-child.ts')
  const flags = ['--max-semi-space-size=2', '--max-old-space-size=128', '--optimize-for-size']
  const child = spawn(process.execPath, [...flags, script, String(port), large], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, MALLOC_ARENA_MAX: '1' },
  })
  const ask = async <T>(path: string) => (await (await fetch(url + path)).json()) as T
  const shown = async () => {
    const text = await fetch(`${url}/metrics`).then(
      (answer) => answer.text(),
      () => '',
    )
    return Number(/^lifeboat_wal_archive_segments\{.*\} (\d+)$/m.exec(text)?.[1])
  }
  try {
    while ((await shown()) !== count) await delay(100)
    const calm = percentile(await scrape(`${url}/metrics`, AbortSignal.timeout(5_000)), 0.99)
    const scraping = new AbortController()
    const scrapes = scrape(`${url}/metrics`, scraping.signal)
    const [bare, ours]: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round += 1) {
      const args = ['-c', 'find "$1" | sort > /dev/null', 'sh', large]
      bare.push(await seconds(() => runProgram({ program: '/bin/sh', args })))
      ours.push((await ask<number>('/first')) / 1000)
    }
    const beside = async (place: string, from: number) => {
      const names = Array.from({ length: arrivals }, (_, index) => segmentName(2, from + index, defaultSegmentSize))
      return median(
        await ask<readonly number[]>(`/looks?directory=${encodeURIComponent(place)}&names=${names.join(',')}`),
      )
    }
    const [besideFew, besideMany] = [await beside(small, few), await beside(large, count)]
    for (let segment = 0; segment < burst; segment += 1)
      putSparse(join(large, segmentName(2, count + arrivals + segment, defaultSegmentSize)))
    const caughtUp = await seconds(async () => {
      while ((await shown()) !== count + arrivals + burst) await delay(20)
    })
    scraping.abort()
    const p99 = percentile(await scrapes, 0.99)
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
    const peak = Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) * 1024
    const amount = count.toLocaleString('en')
    const ratio = Math.min(...ours) / Math.min(...bare)
    return [
      {
        what: `first look at an archive of ${amount} segments against \`find\` into \`sort\` (${Math.min(...bare).toFixed(2)} s)`,
        measured: `${ratio.toFixed(2)} times`,
        goal: '2.00',
        met: ratio <= 2,
      },
      {
        what: `look at a new segment beside ${amount} (${besideMany.toFixed(1)} ms) against one beside ${few.toLocaleString('en')}, median of ${arrivals}`,
        measured: `${(besideMany / besideFew).toFixed(2)} times`,
        goal: '1.50',
        met: besideMany <= 1.5 * besideFew,
      },
      {
        what: `${burst.toLocaleString('en')} new segments at once, from the last one to /metrics`,
        measured: `${caughtUp.toFixed(1)} s`,
        goal: '5 s',
        met: caughtUp <= 5,
      },
      {
        what: `/metrics meanwhile, p99 of ${(await scrapes).length.toLocaleString('en')} scrapes (before it ${calm.toFixed(1)} ms)`,
        measured: `${p99.toFixed(1)} ms`,
        goal: '10 ms',
        met: p99 <= 10,
      },
      {
        what: 'most resident memory of the process that watches it',
        measured: mebibytes(peak),
        goal: '250 MiB',
        met: peak <= 250 * 1_048_576,
      },
    ]
  } finally {
    child.kill('SIGTERM')
    await rm(directory, { recursive: true, force: true })
  }
}

/** Six of ten on the first timeline; those that end a timeline have the header of a segment. */
async function fill(directory: string, count: number): Promise<void> {
  await mkdir(join(directory, '.incoming'), { recursive: true })
  const left = Math.floor(count * 0.6)
  for (let segment = 0; segment < count; segment += 1) {
    const name = segmentName(segment < left ? 1 : 2, segment, defaultSegmentSize)
    if (segment === left - 1 || segment === count - 1) await putSegment(directory, name, { size: defaultSegmentSize })
    else putSparse(join(directory, name))
  }
}

function putSparse(path: string): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, defaultSegmentSize)
  closeSync(file)
}
