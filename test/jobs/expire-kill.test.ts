import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { createInterface } from 'node:readline'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { bareEnvironment } from '../support/lifeboat-program.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { mainFile } from '../support/sidecar.ts'
import { storeBackup, storedCluster, storeProof } from '../support/stored.ts'

const dayMs = 86_400_000
const rounds = 24
const names = ['dump.tar', 'fingerprint.json', 'globals.sql', 'RESTORE.md']

t.test('an expiry that is killed at any moment', { timeout: 240_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const root = join(directory, 'repository')
  const folder = join(root, storedCluster, 'backups')
  const config = join(directory, 'lifeboat.yaml')
  await writeFile(
    config,
    JSON.stringify({
      cluster: storedCluster,
      stateDir: join(directory, 'state'),
      postgres: { host: join(directory, 'nowhere') },
      repositories: [{ name: 'local', url: `file://${root}`, retention: { keepFor: '10d', keepAtLeast: 2 } }],
    }),
  )
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock: systemClock })
  let count = 0
  const dump = async (days: number) => {
    const startedAt = new Date(systemClock.now().getTime() - days * dayMs)
    count += 1
    return storeBackup(root, { startedAt, random: count.toString(16).padStart(6, '0') })
  }
  const proven = await dump(40)
  await storeProof(root, proven, new Date(systemClock.now().getTime() - 39 * dayMs))
  const kept = [proven, await dump(20), await dump(19)].map(({ backupId }) => backupId)
  const held = (await dump(60)).backupId
  const heldAt = systemClock.now().toISOString()
  await repository.hold({ backupId: held, heldAt, heldBy: 'x', reason: '', until: null, lifeboat: '0' })
  const states = new Map<string, number>()

  /** What the folders hold: whole backups, and the rest. */
  function look() {
    const ids = existsSync(folder) ? readdirSync(folder) : []
    const files = (id: string) => readdirSync(join(folder, id)).filter((name) => name !== '.inprogress')
    const whole = ids.filter((id) => existsSync(join(folder, id, 'manifest.json')))
    for (const id of whole) t.same(files(id).sort(), [...names, 'manifest.json'].sort(), `${id} is whole`)
    for (const id of [...kept, held]) t.ok(whole.includes(id), `${id} had to stay`)
    return { whole, rest: ids.filter((id) => !whole.includes(id)) }
  }

  for (let round = 0; round < rounds; round += 1) {
    for (let index = 0; index < 12; index += 1) await dump(100 + index)
    const child = spawn(execPath, [mainFile, 'expire', '--config', config, '--verbose', '--confirm-clock'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: bareEnvironment(),
    })
    await saidOften(child, round % 6)
    await systemClock.sleep((round * 7) % 23)
    child.kill('SIGKILL')
    await once(child, 'close')
    const { whole, rest } = look()
    for (const id of rest) {
      const left = await repository.inspect(id)
      t.ok(left === null || left.inProgress?.purpose === 'expire', 'it tells who was removing it')
      const state = left?.state ?? 'empty'
      states.set(state, (states.get(state) ?? 0) + 1)
    }
    states.set('whole', (states.get('whole') ?? 0) + whole.length)
  }
  const last = spawn(execPath, [mainFile, 'expire', '--config', config], { stdio: 'ignore', env: bareEnvironment() })
  const [code] = await once(last, 'close')
  t.equal(code, 0)
  const { whole, rest } = look()
  t.same(whole.sort(), [...kept, held].sort(), 'the next one brings it to its end')
  t.same(rest, [], 'and clears away what was left')
  t.same((await repository.inspect(held))?.inProgress, null)
  t.comment([...states].map(([state, number]) => `${state}: ${number}`).join(', '))
})

/** Resolves when it has logged so many removals (or, for none, that the run has begun). */
async function saidOften(child: ChildProcess, times: number): Promise<void> {
  if (child.stderr === null) throw new Error('a pipe was asked for')
  const lines = createInterface({ input: child.stderr })
  const words = times === 0 ? /run started/ : /backup has expired/
  let seen = 0
  const all: string[] = []
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`it ended by itself, with ${code}: ${all.join('\n')}`)))
    lines.on('line', (line) => {
      all.push(line)
      if (words.test(line)) seen += 1
      if (seen >= Math.max(1, times)) resolve()
    })
  })
}
