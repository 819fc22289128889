import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { LevelRecorder } from '../../src/jobs/level-recorder.ts'
import type { ReplayPlan } from '../../src/jobs/replay-plan.ts'
import { fetchReplayWal } from '../../src/jobs/replay-wal.ts'
import { walKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { storedCluster } from '../support/stored.ts'
import { segmentBytes } from '../support/wal.ts'
import { filledSystem, storeSegment, storeWal } from '../support/wal-objects.ts'

const [first, second, third] = ['000000010000000000000001', '000000010000000000000002', '000000010000000000000003']

/** Its disk can be listed, and gives no bytes. */
class Unreadable extends LocalStorage {
  override get(): never {
    throw new LifeboatError('storage-failed', 'input/output error')
  }
}

function planOf(fields: Partial<ReplayPlan>): ReplayPlan {
  const end = { timeline: 1, lsn: 0n }
  const segmentSize = 1024 * 1024
  return { timeline: 1, stop: { kind: 'immediate' }, mustReach: end, needed: [], beyond: [], segmentSize, ...fields }
}

t.test('the WAL of a verification', async (t) => {
  const root = await scratchDirectory(t)
  const clock = systemClock
  const storage = new LocalStorage({ root, clock })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock })
  for (const name of [first, third]) await storeSegment(repository, name)
  const { signal } = new AbortController()
  const common = { systemIdentifier: filledSystem, osUser: null, clock, signal }

  const outcome = async (plan: ReplayPlan, from = repository) => {
    const folder = await scratchDirectory(t)
    const recorder = new LevelRecorder(clock)
    const told: number[] = []
    const fetch = () => fetchReplayWal({ ...common, repository: from, plan, folder, onFile: (done) => told.push(done) })
    const command = await recorder.look('wal', 'wal-unreadable', signal, fetch)
    const { verdict, cause } = recorder.result()
    return { command, verdict, cause, told, found: await readdir(join(folder, 'wal')) }
  }

  t.match(await outcome(planOf({ needed: [first], beyond: [third] })), {
    command: /lifeboat-restore-wal "%f" "%p" \S+wal$/,
    verdict: 'pass',
    told: [1, 2],
    found: ['.incoming', first, third],
  })
  t.match(await outcome(planOf({ needed: [first, second] })), { verdict: 'fail', cause: 'wal-missing' })
  t.match(await outcome(planOf({ needed: ['000000010000000000000009'] })), { verdict: 'fail', cause: 'wal-missing' })
  t.match(
    await outcome(planOf({ needed: [first], beyond: [second, third] })),
    { verdict: 'inconclusive', cause: 'wal-missing' },
    'what comes after the end of a backup is not its fault',
  )
  const broken = new Unreadable({ root, clock })
  t.match(
    await outcome(
      planOf({ needed: [first] }),
      new Repository({ name: 'local', cluster: storedCluster, storage: broken, clock }),
    ),
    { verdict: 'inconclusive', cause: 'repository-unreadable' },
  )

  const keys = await scratchDirectory(t)
  const [key, other] = [await ageKey(keys), await ageKey(keys, 'other')]
  await storeWal(repository, filledSystem, second, segmentBytes(second), new Cipher(encryptingFor([key])))
  const torn = await storeSegment(repository, second)
  const file = join(root, walKey(storedCluster, torn))
  await writeFile(file, 'torn')
  for (const [identity, verdict, cause] of [
    [null, 'inconclusive', 'identity-missing'],
    [other.file, 'inconclusive', 'identity-mismatch'],
    [key.file, 'pass', undefined],
  ] as const) {
    const walCipher = new Cipher(encryptingFor([key], identity))
    const from = new Repository({ name: 'local', cluster: storedCluster, storage, clock, walCipher })
    t.match(await outcome(planOf({ needed: [second] }), from), { verdict, cause }, 'one copy is torn')
  }
})
