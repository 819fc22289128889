import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { RetentionRefusal } from '../../src/domain/retention.ts'
import type { RepositoryState } from '../../src/observe/catalog.ts'
import { createRepositoryLook } from '../../src/observe/repository.ts'
import { createRetentionView, surveyRetention } from '../../src/observe/retention.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { at, backup, catalogOf, defaultRetention, proof, repositoryState } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { storedCluster, storeManifest, storeProof } from '../support/stored.ts'

const policies = new Map([['local', { ...defaultRetention, keepForSeconds: 3600, keepAtLeast: 1 }]])
const later = (minutes: number, state: RepositoryState) => catalogOf({ at: at(600 + minutes), repositories: [state] })

t.test('a plan is made once for each change', async (t) => {
  let doubt: RetentionRefusal | null = null
  const view = createRetentionView({ policies, clockDoubt: () => doubt })
  const [old, last] = [backup(0), backup(100)]
  const state = repositoryState('local', [old, last])
  const catalog = later(0, state)
  const plans = view(catalog)
  const plan = plans.get('local')
  t.equal(view(catalog), plans)
  t.equal(view(later(1, { ...state, capacity: { freeBytes: 1, totalBytes: 2 } })).get('local'), plan)
  t.same(plan?.removals, [{ id: old.id, needs: [last.id] }])

  const use = { backupId: old.id, key: 'k', version: '1', runId: 'r', heartbeatAt: at(601) }
  const used = view(later(2, { ...state, uses: [use] })).get('local')
  t.same(used?.decisions.get(old.id)?.reasons, ['in-use'])
  const renewed = { ...use, version: '2', heartbeatAt: at(602) }
  t.equal(view(later(3, { ...state, uses: [renewed] })).get('local'), used, 'a sign of life changes nothing')
  t.same(view(later(20, { ...state, uses: [renewed] })).get('local')?.removals.length, 1, 'until it lapses')
  const holds = new Map([[old.id, { backupId: old.id, reason: '', until: null }]])
  t.match(view(later(20, { ...state, holds })).get('local'), { removals: [], held: 1 })
  t.match(view(later(20, { ...state, unreadProofs: new Set([old.id]) })).get('local'), { removals: [] })
  const proofs = repositoryState('local', [], [proof(old, 300, { artifact: 'pass', restore: 'pass' })]).proofs
  t.match(view(later(20, { ...state, proofs })).get('local'), { removals: [] }, 'the last proven one')
  const unusable = [{ id: 'x', state: 'invalid' as const }]
  t.match(view(later(20, { ...state, unusable })).get('local'), {
    refusal: { cause: 'manifest-invalid' },
    removals: [],
  })
  t.match(view(later(20, { ...state, unusable: [{ id: 'x', state: 'incomplete' }] })).get('local'), { refusal: null })
  doubt = { cause: 'clock-back', message: '', hint: '' }
  t.match(view(later(21, state)).get('local'), { refusal: doubt, removals: [] })
  t.equal(view(catalogOf({ repositories: [repositoryState('other', [])] })).size, 0, 'no policy, no plan')
})

t.test('a look at a repository sees who wants its backups kept', async (t) => {
  const root = t.testdir({})
  const clock = new FakeClock(at(600))
  const storage = new LocalStorage({ root, clock })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock })
  const look = createRepositoryLook({ repository, capacity: null, log: keptLog().log })
  const signal = new AbortController().signal
  const [one, two] = [
    await storeManifest(root, { startedAt: at(0), random: '000001' }),
    await storeManifest(root, { startedAt: at(1), random: '000002' }),
  ]
  const empty = await look(signal)
  t.match(empty, { holds: new Map(), uses: [], unreadProofs: new Set() })
  t.equal((await look(signal)).holds, empty.holds)

  const hold = { backupId: one.backupId, heldAt: at(599).toISOString(), heldBy: 'x', lifeboat: '0' }
  await repository.hold({ ...hold, reason: 'why', until: at(900).toISOString() })
  const use = await repository.useBackup(two.backupId, { runId: 'v', purpose: 'verify' })
  const seen = await look(signal)
  t.same([...seen.holds.values()], [{ backupId: one.backupId, reason: 'why', until: at(900) }])
  t.match(seen.uses, [{ backupId: two.backupId, runId: 'v', heartbeatAt: at(600) }])
  t.equal((await look(signal)).holds, seen.holds, 'the same until it changes')
  const { backups } = surveyRetention(seen, () => false)
  t.match(backups, [
    { id: one.backupId, hold: { until: at(900) }, inUse: false },
    { id: two.backupId, hold: null, inUse: true },
  ])
  t.match(surveyRetention(seen, () => true).backups, [{}, { inUse: false }])

  await writeFile(join(root, storedCluster, 'holds', `${one.backupId}.json`), 'torn')
  const key = await storeProof(root, two, at(500))
  await writeFile(join(root, key), 'torn')
  await use.release()
  const damaged = await look(signal)
  t.match([...damaged.holds.values()], [{ reason: /is not valid/, until: null }], 'it holds all the same')
  t.same(damaged.uses, [])
  t.match(surveyRetention(damaged, () => false).backups, [{ hold: { until: null } }, { standing: 'unknown' }])
  await repository.releaseHold(one.backupId)
  t.equal((await look(signal)).holds.size, 0)
})
