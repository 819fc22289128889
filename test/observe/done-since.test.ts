import t from 'tap'
import { wasDoneSince } from '../../src/observe/done-since.ts'
import { at, backup, catalogOf, proof, repositoryState, serverState } from '../support/catalog.ts'

t.test('what the repositories show of another sidecar’s runs', (t) => {
  const [app, crm] = [backup(120), backup(121, { database: 'crm' })]
  const proofs = [proof(app, 240, { artifact: 'pass' })]
  const catalog = catalogOf({
    server: serverState(['app', 'crm']),
    repositories: [repositoryState('local', [app], proofs), repositoryState('offsite', [crm])],
  })
  t.ok(wasDoneSince(catalog, 'dump', at(120)))
  t.ok(wasDoneSince(catalog, 'dump', at(121)), 'its clock is a little late')
  t.notOk(wasDoneSince(catalog, 'dump', at(122)), 'one of two is not all')
  t.ok(wasDoneSince(catalog, 'verify', at(240)))
  t.notOk(wasDoneSince(catalog, 'verify', at(242)))
  t.notOk(wasDoneSince(catalog, 'expire', at(0)), 'nothing tells')

  const ahead = backup(900, { finishedAt: at(901) })
  const dated = catalogOf({
    repositories: [repositoryState('local', [ahead], [proof(ahead, 902, { artifact: 'pass' })])],
  })
  t.notOk(wasDoneSince(dated, 'dump', at(120)), 'a wrong clock’s word counts for nothing')
  t.notOk(wasDoneSince(dated, 'verify', at(120)))
  const foreign = backup(120, { systemIdentifier: '1' })
  t.notOk(wasDoneSince(catalogOf({ repositories: [repositoryState('local', [foreign])] }), 'dump', at(120)))
  t.notOk(wasDoneSince(catalogOf({ server: null }), 'dump', at(120)), 'nobody knows what must be there')
  const full = backup(120, { type: 'full', database: '' })
  const physical = catalogOf({ repositories: [repositoryState('local', [full])] })
  t.ok(wasDoneSince(physical, 'full', at(120)))
  t.ok(wasDoneSince(physical, 'incremental', at(120)), 'a full one is more than was wanted')
  t.notOk(wasDoneSince(physical, 'dump', at(120)))
  t.notOk(wasDoneSince(physical, 'full', at(122)))
  t.end()
})
