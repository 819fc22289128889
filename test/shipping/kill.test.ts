import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { execPath } from 'node:process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { bareEnvironment } from '../support/lifeboat-program.ts'
import { isIdle, realWal, shipGround, untilState } from '../support/shipping.ts'

const program = fileURLToPath(new URL('fixtures/ship-in-a-loop.ts', import.meta.url))

await t.test('a process that is killed at any instant while it ships', { timeout: 240_000 }, async (t) => {
  const wal = await realWal(t, { segments: 24 })
  const ground = await shipGround(t)
  await ground.fill(wal)
  const said = new Set<string>()
  for (let round = 0; round < 8; round += 1) {
    const child = spawn(execPath, [program, ground.archive, ground.roots[0] ?? ''], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: bareEnvironment(),
    })
    if (child.stdout === null) throw new Error('a pipe was asked for')
    const lines = createInterface({ input: child.stdout })
    const started = Promise.withResolvers<void>()
    lines.on('line', (line) => {
      const [step = '', name = ''] = line.split(' ')
      if (step === 'started') started.resolve()
      else said.add(name)
    })
    await started.promise
    await systemClock.sleep(round * 12)
    const closed = once(child, 'close')
    child.kill('SIGKILL')
    await closed
    // Each is unpacked and held against its hash.
    const stored = await ground.stored(wal.systemIdentifier)
    for (const name of said) t.ok(stored.includes(name), `${name} was said to be stored, and is`)
    t.same(
      stored.filter((name) => !wal.names.includes(name)),
      [],
    )
  }
  const service = await ground.ship()
  const state = await untilState(service, 'the rest', isIdle)
  t.same(await ground.stored(wal.systemIdentifier), wal.names, 'nothing is missing')
  t.equal(state.repositories[0]?.quarantined.size, 0)
})
