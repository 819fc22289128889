import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { bareEnvironment } from '../support/lifeboat-program.ts'
import { publishFull, storedSystem, storeWal } from '../support/physical.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { mainFile } from '../support/sidecar.ts'
import { storedCluster } from '../support/stored.ts'

const daysAgo = (days: number) => new Date(systemClock.now().getTime() - days * 86_400_000)
const size = 16 * 1024 * 1024

t.test('an expiry of WAL that is killed at any moment', { timeout: 120_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const root = join(directory, 'repository')
  const config = join(directory, 'lifeboat.yaml')
  await writeFile(
    config,
    JSON.stringify({
      cluster: storedCluster,
      stateDir: join(directory, 'state'),
      postgres: { host: join(directory, 'nowhere') },
      repositories: [{ name: 'local', url: `file://${root}`, retention: { keepFor: '10d' } }],
    }),
  )
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock: systemClock })
  await publishFull(repository, { startedAt: daysAgo(5), lsn: '1/2C000028' }) // in segment 300
  for (let segment = 0; segment < 310; segment += 1) await storeWal(root, segmentName(1, segment, size), daysAgo(40))
  const folder = join(root, storedCluster, 'wal', storedSystem, '00000001')
  const look = () => {
    const names = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []
    const segments = names
      .map((name) => /\/[0-9A-F]{8}([0-9A-F]{16})-/.exec(name)?.[1])
      .filter((one) => one !== undefined)
    return segments.map(
      (digits) => Number.parseInt(digits.slice(0, 8), 16) * 256 + Number.parseInt(digits.slice(8), 16),
    )
  }
  const expire = () =>
    spawn(execPath, [mainFile, 'expire', '--config', config, '--confirm-clock'], {
      stdio: 'ignore',
      env: bareEnvironment(),
    })
  const isWhole = (segments: readonly number[]) => segments.length === 310 - Math.min(...segments)

  let killed = 0
  for (let round = 1; round <= 5; round += 1) {
    const child = expire()
    const ended = once(child, 'close')
    const wanted = 310 - round * 25
    while (look().length > wanted && child.exitCode === null) await delay(1)
    child.kill('SIGKILL')
    const [, signal] = await ended
    if (signal === 'SIGKILL') killed += 1
    const left = look()
    t.ok(isWhole(left), `what is left of it begins at ${Math.min(...left)}, and has no hole`)
  }
  t.ok(killed > 0, `it was at work ${killed} times`)
  const [code] = await once(expire(), 'close')
  t.equal(code, 0)
  t.same(
    look().sort((a, b) => a - b),
    Array.from({ length: 10 }, (_, index) => 300 + index),
    'the next one goes on',
  )
})
