import t from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import { assertChain, buildsOn } from '../../src/domain/chain.ts'

function backup(id: string, parent: string | null, changes: object = {}): Manifest {
  return {
    ...{ backupId: id, parent, type: parent === null ? 'full' : 'incremental', systemIdentifier: '7', timeline: 1 },
    ...{ serverVersionNum: 170_011, start: { lsn: '0/3000028' }, physical: {} },
    ...changes,
  } as unknown as Manifest
}

t.test('what an incremental backup builds on', async (t) => {
  const full = backup('full', null)
  const basis = { timeline: 1, lsn: '0/03000028' }
  t.ok(buildsOn(backup('a', 'full'), full))
  t.notOk(buildsOn(backup('a', 'other'), full))
  t.ok(buildsOn(backup('a', 'other', { physical: { basis } }), full), 'by the place where it starts')
  for (const wrong of [{ timeline: 2 }, { lsn: '1/3000028' }])
    t.notOk(buildsOn(backup('a', 'other', { physical: { basis: { ...basis, ...wrong } } }), full))
  t.notOk(buildsOn(backup('a', 'full', { systemIdentifier: '8' }), full), 'after initdb')
  t.notOk(buildsOn(backup('a', 'full', { serverVersionNum: 180_001 }), full), 'after pg_upgrade')
})

t.test('chains', async (t) => {
  const [full, a, b] = [backup('full', null), backup('a', 'full'), backup('b', 'a')]
  t.equal(assertChain([full, a, b]), b)
  t.equal(assertChain([full]), full)
  const wrong: readonly (readonly [readonly Manifest[], RegExp])[] = [
    [[], /it has no backup/],
    [[a, b], /a builds on full, which is not there/],
    [[full, b], /b does not build on full/],
    [[full, a, full], /full does not build on a/],
    [[backup('dump', null, { physical: undefined })], /not a physical backup/],
  ]
  for (const [chain, message] of wrong) t.throws(() => assertChain(chain), { code: 'not-recoverable', message })
})
