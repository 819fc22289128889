import { rename } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import pino from 'pino'
import { systemClock as clock } from '../../src/clock.ts'
import { createSnapshot } from '../../src/metrics/snapshot.ts'
import { writeWalArchive } from '../../src/metrics/wal-archive.ts'
import { createCollector } from '../../src/observe/collector.ts'
import { createThrottle } from '../../src/observe/throttle.ts'
import { WalArchive } from '../../src/observe/wal-archive.ts'
import type { WalArchiveState } from '../../src/observe/wal-state.ts'
import { putSegment } from '../support/wal-segments.ts'

/*
 * A process that watches archives, as the sidecar does, and serves the metrics of the first one. Arguments: port, directory.
 */
const [port, directory = ''] = process.argv.slice(2)
const log = pino({ level: 'warn' }, process.stderr)
const { signal } = new AbortController()

let body = ''
const hints = createThrottle({ clock, delayMs: 50, spacingMs: 200, action: () => void collector.refresh() })
const archive = new WalArchive({ directory, clock, log, onHint: () => hints.request() })
const collector = createCollector<WalArchiveState>({
  name: 'wal-archive',
  look: (aborted) => archive.look(aborted),
  clock,
  log,
  intervalSeconds: 15,
  timeoutSeconds: 60,
  onChange: () => void render(),
})

async function render(): Promise<void> {
  const snapshot = createSnapshot('bench')
  writeWalArchive(snapshot, collector.value())
  body = await snapshot.text()
}

/** Milliseconds of a first look at the directory. */
async function firstLook(): Promise<number> {
  const one = new WalArchive({ directory, clock, log, onHint: () => {} })
  const begun = performance.now()
  const { segments } = await one.look(signal)
  const took = performance.now() - begun
  one.close()
  if (segments === 0) throw new Error('it saw nothing')
  return took
}

/** Milliseconds of each look after a new segment has come, for the given names. */
async function looks(place: string, names: readonly string[]): Promise<readonly number[]> {
  let hint = Promise.withResolvers<void>()
  const one = new WalArchive({ directory: place, clock, log, onHint: () => hint.resolve() })
  const first = await one.look(signal)
  await one.look(signal)
  const took: number[] = []
  for (const [index, name] of names.entries()) {
    hint = Promise.withResolvers()
    await putSegment(join(place, '.incoming'), name, { size: first.segmentSize ?? 0 })
    await rename(join(place, '.incoming', name), join(place, name))
    await hint.promise
    const begun = performance.now()
    const { segments } = await one.look(signal)
    took.push(performance.now() - begun)
    if (segments !== first.segments + index + 1) throw new Error(`${name} was not seen`)
  }
  one.close()
  return took
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://localhost')
  const at = (name: string) => url.searchParams.get(name) ?? ''
  if (url.pathname === '/metrics') {
    response.end(body)
    return
  }
  const result = url.pathname === '/first' ? await firstLook() : await looks(at('directory'), at('names').split(','))
  response.end(JSON.stringify(result))
}

createServer((request, response) => void serve(request, response)).listen(Number(port), '127.0.0.1')
collector.start()
