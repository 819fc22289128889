import { cp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import { readChain } from '../../src/jobs/verify-chain.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { publishFull } from '../support/physical.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { storedCluster } from '../support/stored.ts'
import { writeManifest } from '../support/tamper.ts'

const day = (number: number) => new Date(Date.UTC(2026, 2, number))

t.test('what a backup builds on', async (t) => {
  const root = await scratchDirectory(t)
  const clock = systemClock
  const repository = new Repository({
    name: 'local',
    cluster: storedCluster,
    storage: new LocalStorage({ root, clock }),
    clock,
  })
  const folder = ({ backupId }: Manifest) => join(root, storedCluster, 'backups', backupId)
  const full = await publishFull(repository, { startedAt: day(1), lsn: '0/1000028' })
  const twin = await publishFull(repository, { startedAt: day(3), lsn: '0/2000028' })
  /** Published as a full one, and made an incremental one of. */
  const incremental = async (number: number, lsn: string, parent: string, basis?: string) => {
    const made = await publishFull(repository, { startedAt: day(number), lsn })
    const backupId = made.backupId.replace('-full-', '-incremental-')
    const { physical } = made
    if (physical === undefined) throw new Error('it is a dump')
    const known = basis === undefined ? physical : { ...physical, basis: { timeline: 1, lsn: basis } }
    await rename(folder(made), folder({ ...made, backupId }))
    return writeManifest(folder({ ...made, backupId }), {
      ...{ ...made, backupId, type: 'incremental' as const, parent, physical: known },
    })
  }
  const chainOf = async ({ backupId }: Manifest, others: readonly Repository[] = []) => {
    const { signal } = new AbortController()
    const read = await repository.readManifestObject(backupId)
    if ('problem' in read) throw read.problem
    const chain = await readChain(repository, { manifest: read.manifest, version: read.info.version }, signal, others)
    return chain.map(({ manifest }) => manifest.backupId)
  }
  const whyNot = (of: Manifest, others?: readonly Repository[]) => chainOf(of, others).catch((error: unknown) => error)
  const middle = await incremental(2, '0/2000028', full.backupId, '0/1000028')
  const last = await incremental(4, '0/3000028', middle.backupId, '0/2000028')
  const old = await incremental(5, '0/4000028', middle.backupId)
  t.same(await chainOf(last), [full.backupId, middle.backupId, last.backupId])

  const aside = await scratchDirectory(t)
  await cp(root, aside, { recursive: true })
  const another = new Repository({
    ...{ name: 'another', cluster: storedCluster, clock },
    storage: new LocalStorage({ root: aside, clock }),
  })
  await rm(folder(middle), { recursive: true })
  t.same(await chainOf(last), [twin.backupId, last.backupId], 'one that starts at the same place will do')
  t.match(await whyNot(old), { reason: 'parent-missing', verdict: 'fail' }, 'it does not say where that started')
  t.match(
    await whyNot(old, [another]),
    { reason: 'parent-elsewhere', verdict: 'inconclusive', message: /is in repository another, and not here/ },
    'it can be restored together with that',
  )

  const wrong = await publishFull(repository, { startedAt: day(6), lsn: '0/5000028', systemIdentifier: '7' })
  const stray = await incremental(7, '0/6000028', wrong.backupId, '0/5000028')
  t.match(await whyNot(stray), { reason: 'chain-broken' })
  const circle = await incremental(8, '0/7000028', '20260309T000000Z-incremental-abcdef')
  const other = await incremental(9, '0/8000028', circle.backupId)
  t.match(await whyNot(other), { reason: 'chain-broken', message: /builds on itself/ })
})
