import { createHook } from 'node:async_hooks'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { noEncryption } from '../../src/encryption/age.ts'
import { readGrowth } from '../../src/jobs/growth-reader.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { fingerprintOf } from '../support/fingerprint.ts'

const id = (number: number) => `20260301T0200${number}0Z-dump-0a1b2c`
const [first, second, none] = [id(0), id(1), id(2)]

const print = (rows: number, tables = 1) =>
  JSON.stringify(
    fingerprintOf(
      Array.from({ length: tables }, (_, number) => ({
        schema: 'it\'s "odd"\n',
        name: `t${number}`,
        bytes: 8192,
        method: 'full' as const,
        whole: { rows, hash: '1' },
      })),
    ),
  )

/** A repository of backups of which there is only the fingerprint; null: not even that. */
function reading(t: Test, files: Readonly<Record<string, string | null>>, signal = new AbortController().signal) {
  const root = t.testdir()
  for (const [id, text] of Object.entries(files)) {
    const folder = join(root, 'prod', 'backups', id)
    mkdirSync(folder, { recursive: true })
    if (text !== null) writeFileSync(join(folder, 'fingerprint.json'), text)
  }
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: 'prod', storage, clock: systemClock })
  const reader = readGrowth([{ repository }], 'local', { encryption: noEncryption, signal })
  t.teardown(() => reader.end())
  return { reader, repository, fileOf: (id: string) => join(root, 'prod', 'backups', id, 'fingerprint.json') }
}

t.test('what has changed from one backup to another', async (t) => {
  const { reader } = reading(t, { [first]: print(1000), [second]: print(10), [none]: null })
  t.equal(await reader.hold(second), true)
  t.match(await reader.compare(first), { rowsRatio: 0.01, tables: [{ rowsBefore: 1000, rowsAfter: 10 }] })
  t.match(await reader.compare(second), { rowsRatio: 1, tables: [] }, 'the one that is held stays')
  t.equal(await reader.compare(none), null)
  t.equal(await reader.hold(none), false)
})

t.test('without a fingerprint no thread is begun, and what was begun ends', async (t) => {
  const alive = new Set<number>()
  const hook = createHook({
    init: (asyncId, type) => type === 'WORKER' && alive.add(asyncId),
    destroy: (asyncId) => alive.delete(asyncId),
  }).enable()
  t.teardown(() => hook.disable())
  const { reader, repository } = reading(t, { [first]: null, [second]: print(1) })
  // The repository has a thread of its own.
  await repository.headArtifact(first, 'fingerprint.json')
  const before = alive.size
  t.equal(await reader.hold(first), false)
  t.equal(
    await readGrowth([{ repository }], 'other', {
      encryption: noEncryption,
      signal: new AbortController().signal,
    }).hold(second),
    false,
  )
  t.equal(alive.size, before)
  t.equal(await reader.hold(second), true)
  t.equal(alive.size, before + 1)
  await reader.end()
})

t.test('a fingerprint that is none says so, and the next one is read', async (t) => {
  const odd = JSON.parse(print(1))
  odd.tables = [{ schema: 1, name: { deep: [] } }]
  const bad = ['', '{', 'null', '[]', '{"formatVersion":1}', '{"formatVersion":99}']
  const { reader, fileOf } = reading(t, { [first]: print(1), [second]: print(1) })
  await reader.hold(second)
  for (const text of bad) {
    writeFileSync(fileOf(first), text)
    await t.rejects(reader.compare(first), { code: 'artifact-invalid', message: new RegExp(first) }, text)
  }
  writeFileSync(fileOf(first), print(1))
  t.match(await reader.compare(first), { rowsRatio: 1 })
  truncateSync(fileOf(first), 64 * 1024 * 1024 + 1)
  t.equal(await reader.compare(first), null, 'one that is too large counts as none')
})

t.test('a stop ends what is under way', async (t) => {
  const stop = new AbortController()
  const { reader } = reading(t, { [first]: print(1, 100_000) }, stop.signal)
  const refused = t.rejects(reader.hold(first))
  stop.abort(new Error('stopping'))
  await refused
  await t.rejects(reader.compare(first))
})
