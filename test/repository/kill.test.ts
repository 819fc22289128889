import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { createInterface } from 'node:readline'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { bareEnvironment } from '../support/lifeboat-program.ts'

const program = fileURLToPath(new URL('fixtures/back-up-in-a-loop.ts', import.meta.url))

/** What a killed writer had said, by the id of the backup. */
type Said = Map<string, string>

/**
 * Starts a writer, without the test runner's own loaders, which take longer than the writer. Resolves when it has
 * said that it takes this step.
 */
async function startAndAwait(root: string, said: Said, awaited: string): Promise<ChildProcess> {
  const child = spawn(execPath, [program, root], { stdio: ['ignore', 'pipe', 'inherit'], env: bareEnvironment() })
  if (child.stdout === null) throw new Error('a pipe was asked for')
  const lines = createInterface({ input: child.stdout })
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the writer ended by itself, with ${code}`)))
    lines.on('line', (line) => {
      const [step, id] = line.split(' ')
      if (step && id) said.set(id, step)
      if (step === awaited) resolve()
    })
  })
  return child
}

async function killed(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}

/** Fails the test unless every backup that has a manifest is whole. Returns their ids. */
async function wholeBackups(t: Test, repository: Repository, root: string): Promise<Set<string>> {
  const whole = new Set<string>()
  const seen: string[] = []
  for await (const id of repository.listBackups()) {
    if ((await repository.headManifest(id)) === null) continue
    const { artifacts } = await repository.readManifest(id)
    for (const { name, stored } of artifacts) {
      const bytes = await buffer(await repository.readArtifact(id, name))
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      if (bytes.length !== stored.bytes || sha256 !== stored.sha256) seen.push(`${id}/${name} is not as it was put`)
    }
    const inFolder = readdirSync(join(root, 'prod/backups', id)).filter((name) => name !== '.inprogress')
    const expected = [...artifacts.map(({ name }) => name), 'manifest.json']
    if (new Set([...inFolder, ...expected]).size !== expected.length) seen.push(`${id} holds ${inFolder.join(', ')}`)
    whole.add(id)
  }
  t.same(seen, [], 'every backup with a manifest is whole')
  return whole
}

/** Fails the test if anything that is visible under its name has not its full size. */
async function nothingHalfWritten(t: Test, storage: LocalStorage): Promise<void> {
  const sizes: Record<string, number> = { 'dump.tar': 1_300_000, 'globals.sql': 1000 }
  const half: string[] = []
  for await (const item of storage.list('')) {
    if (!('key' in item)) continue
    const expected = sizes[item.key.split('/').at(-1) ?? '']
    if (item.bytes === 0 || (expected !== undefined && item.bytes !== expected)) half.push(item.key)
  }
  t.same(half, [], 'nothing is there in part')
}

await t.test('a writer that is killed at any instant', { timeout: 240_000 }, async (t) => {
  const root = t.testdir()
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: 'prod', storage, clock: systemClock })
  const states = new Map<string, number>()
  let kept = new Set<string>()
  for (let round = 0; round < 40; round++) {
    const said: Said = new Map()
    // Three rounds of four into the writing of one or two backups, each a little later; one into a removal.
    const isRemoval = round % 4 === 3
    const child = await startAndAwait(root, said, isRemoval ? 'removing' : 'begin')
    await systemClock.sleep(isRemoval ? round / 5 : round * 2)
    await killed(child)

    await nothingHalfWritten(t, storage)
    const whole = await wholeBackups(t, repository, root)
    for (const id of kept) t.ok(whole.has(id), `${id} from an earlier round is still there`)
    for (const [id, step] of said) {
      if (step === 'published') t.ok(whole.has(id), `${id} was published and is there`)
      if (step === 'removed') t.notOk(whole.has(id), `${id} was removed and is not there`)
    }
    const rest = new Set<string>()
    for await (const id of repository.listBackups()) {
      const folder = await repository.inspect(id)
      if (folder !== null && !whole.has(id)) rest.add(id)
      const state = `${said.get(id)} ${folder?.state ?? 'empty'}${folder?.inProgress ? ' claimed' : ''}`
      if (!kept.has(id)) states.set(state, (states.get(state) ?? 0) + 1)
    }
    t.same(await repository.cleanUp({ isLapsed: () => false }), [], 'while the writer may be alive, nothing goes')
    t.same(new Set(await repository.cleanUp({ isLapsed: () => true })), rest, 'then exactly the rest goes')
    await storage.cleanTemporary()
    const temporary = join(root, '.lifeboat-tmp')
    t.same(existsSync(temporary) ? readdirSync(temporary) : [], [], 'and so does what was half-written')
    t.same(await wholeBackups(t, repository, root), whole, 'no complete backup disappears')
    for (const id of whole) t.equal((await repository.inspect(id))?.inProgress, null, 'no claim is left')
    // The first backups stay for all rounds; hashing all of them each time would take long.
    for (const id of [...whole].slice(2)) await repository.removeBackup(id)
    kept = new Set([...whole].slice(0, 2))
  }
  t.ok(
    [...states.keys()].some((state) => state.endsWith('in-progress claimed')),
    'some were killed while writing',
  )
  t.comment([...states].map(([state, count]) => `${state}: ${count}`).join(', '))
})
