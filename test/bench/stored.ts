import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import { systemClock as clock } from '../../src/clock.ts'
import { defaultSegmentSize, segmentName } from '../../src/domain/wal.ts'
import { StoredWalIndex } from '../../src/observe/stored-wal.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { walKey, walTimelinePrefix } from '../../src/repository/layout.ts'
import { openHistory } from '../../src/runner/history.ts'
import { directoryRepository, filledSystem, storeSegment } from '../support/wal-objects.ts'
import { type Figure, median, seconds } from './table.ts'

const rounds = 20
const log = pino({ level: 'silent' })
const { signal } = new AbortController()

/** The index of a repository with very many stored segments, which are empty files. */
export async function benchStored(base: string, count: number): Promise<readonly Figure[]> {
  const directory = mkdtempSync(join(base, 'stored-'))
  const root = join(directory, 'repository')
  const history = openHistory({ file: join(directory, 'lifeboat.db'), clock, log })
  try {
    const repository = directoryRepository(root, { history, clock })
    const name = (segment: number) => segmentName(1, segment, defaultSegmentSize)
    await storeSegment(repository, name(0), 1, 16)
    for (let segment = 1; segment < count; segment += 1) strew(root, name(segment))
    const folder = join(root, walTimelinePrefix('spavix', filledSystem, 1))
    const bare = await seconds(async () => {
      let lines = 0
      const args = [folder, '-type', 'f', '-printf', '%p %s %T@ %C@ %i\n']
      await runProgram({ program: 'find', args, onStdoutLine: () => (lines += 1) })
      if (lines !== count) throw new Error(`find saw ${lines}`)
    })
    const make = () => new StoredWalIndex({ repository, records: history.wal.index, clock, log })
    const index = make()
    let duringPass: number[] = []
    const whole = await seconds(async () => {
      const listed = index.lookAtAll(signal)
      duringPass = await looksUntil(index, listed)
      await listed
    })
    const looks: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      await storeSegment(repository, name(count + round), 1, 16)
      looks.push(await seconds(async () => assertSize(await index.look(signal), count + round + 1)))
    }
    await index.close()
    const before = heapInUse()
    const again = make()
    const restart = await seconds(async () => assertSize(await again.look(signal), count + rounds))
    const kept = heapInUse() - before
    await again.close()
    const amount = count.toLocaleString('en')
    const ms = (value: number) => `${(value * 1000).toFixed(0)} ms`
    return [
      {
        what: `listing of ${amount} stored segments against \`find -printf\` (${bare.toFixed(1)} s)`,
        measured: `${whole.toFixed(1)} s`,
        goal: 'told',
        met: true,
      },
      {
        what: `look at one new segment beside them, median (worst) of ${rounds}`,
        measured: `${ms(median(looks))} (${ms(Math.max(...looks))})`,
        goal: '50 ms',
        met: median(looks) <= 0.05,
      },
      {
        what: 'a look while everything is listed, worst',
        measured: ms(Math.max(...duringPass)),
        goal: '500 ms',
        met: Math.max(...duringPass) <= 0.5,
      },
      { what: 'first look after a restart', measured: ms(restart), goal: '1,000 ms', met: restart <= 1 },
      {
        what: 'heap that the index keeps',
        measured: `${(kept / 1_048_576).toFixed(1)} MiB`,
        goal: '20 MiB',
        met: kept <= 20 * 1_048_576,
      },
    ]
  } finally {
    history.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Looks again and again until something has ended. The first one, which waits for a while, does not count. */
async function looksUntil(index: StoredWalIndex, ended: Promise<unknown>): Promise<number[]> {
  const looks: number[] = [0]
  let over = false
  const end = () => {
    over = true
  }
  void ended.then(end, end)
  await index.look(signal)
  while (!over) {
    looks.push(await seconds(() => index.look(signal)))
    await delay(200)
  }
  return looks
}

/** After everything was collected that can be: resident memory would tell of what was made before, too. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

function assertSize({ systems }: Awaited<ReturnType<StoredWalIndex['look']>>, segments: number): void {
  const found = systems.get(filledSystem)?.segments
  if (found !== segments) throw new Error(`${found} segments instead of ${segments}`)
}

function strew(root: string, name: string): void {
  const key = walKey('spavix', { systemIdentifier: filledSystem, name, hash: 'abcdef012345', isEncrypted: false })
  // The first of each folder.
  if (name.endsWith('00')) mkdirSync(join(root, dirname(key)), { recursive: true })
  writeFileSync(join(root, key), '')
}
