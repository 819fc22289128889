import t from 'tap'
import { backupId, type Manifest } from '../../src/domain/backup.ts'
import { chooseParent, type ParentQuestion } from '../../src/domain/incremental-parent.ts'

/** What the choice looks at of a manifest; the place in the WAL is the number, whatever the id says. */
function backup(number: number, parent: Manifest | null, changes: Partial<Manifest> = {}): Manifest {
  const at = new Date(Date.UTC(2026, 0, 30 - number))
  const id = backupId(at, parent === null ? 'full' : 'incremental', number.toString(16).padStart(6, '0'))
  const start = { lsn: `0/${number}000028`, time: at.toISOString() }
  return {
    backupId: id,
    parent: parent?.backupId ?? null,
    systemIdentifier: '7',
    timeline: 1,
    start,
    ...changes,
  } as Manifest
}

const full = backup(1, null)
const first = backup(2, full)
const second = backup(3, first)
const question: ParentQuestion = {
  ...{ systemIdentifier: '7', timeline: 1, summarizesWal: true, refuted: new Set(), chainLimit: 28 },
  backups: [second, full, first],
}
const chosen = (changes: Partial<ParentQuestion>) => {
  const choice = chooseParent({ ...question, ...changes })
  return choice.chain === null ? choice.reason : choice.chain.map(({ backupId }) => backupId)
}
const ids = (...all: readonly Manifest[]) => all.map(({ backupId }) => backupId)

t.test('the newest by its place in the WAL, with all that it builds on', async (t) => {
  t.same(chosen({}), ids(full, first, second))
  t.same(chosen({ backups: [full] }), ids(full))
  t.same(chosen({ backups: [second, full, first, backup(4, null)] }), ids(backup(4, null)), 'a newer full one')
  t.same(chosen({ chainLimit: 4 }), ids(full, first, second))
  const made = { ...backup(1, null), backupId: 'made', start: second.start }
  for (const backups of [
    [second, made, full, first],
    [made, first, full, second],
  ])
    t.same(chosen({ backups, chainLimit: 3 }), ['made'], 'the one that was put together from the chain')
})

t.test('why there has to be a full one', async (t) => {
  t.match(chosen({ backups: [] }), /no backup of this cluster/)
  t.match(chosen({ systemIdentifier: '8' }), /^the system identifier was .* and is 8, as after pg_upgrade or initdb$/)
  t.match(chosen({ timeline: 2 }), /on timeline 2, and no backup is/)
  t.match(chosen({ summarizesWal: false }), /summarize_wal is off/)
  t.match(
    chosen({ backups: [second, full] }),
    new RegExp(`${second.backupId} builds on ${first.backupId}, which is not there`),
  )
  t.match(chosen({ refuted: new Set(ids(full)) }), new RegExp(`refuted ${full.backupId}`))
  t.match(chosen({ chainLimit: 3 }), /has 3 backups, and physical.chainLimit is 3/)
  t.match(chooseParent({ ...question, chainLimit: 3 }), { tooLong: [full, first, second] })
  t.notOk('tooLong' in chooseParent({ ...question, chainLimit: 3, refuted: new Set(ids(full)) }), 'only a sound one')
  const a = backup(5, second, { backupId: 'a', parent: 'b' })
  t.match(chosen({ backups: [a, backup(4, a, { backupId: 'b', parent: 'a' })] }), /builds on itself/)
})
