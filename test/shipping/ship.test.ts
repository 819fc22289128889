import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { readWalPageHeader } from '../../src/domain/wal-page.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { StoredWalIndex } from '../../src/observe/stored-wal.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { isIdle, realWal, type ShipGround, shipGround, untilState } from '../support/shipping.ts'
import { hashOf } from '../support/wal-objects.ts'

const wal = await realWal(t)
const system = wal.systemIdentifier
const history = '1\t0/1000000\tno recovery target specified\n'

await t.test('what a server has archived', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  const first = wal.names[0] ?? ''
  const label = `${first}.00000028.backup`
  await ground.put({
    '00000002.history': history,
    [label]: `START WAL LOCATION: 0/100028 (file ${first})\nSTOP WAL LOCATION: 0/100100 (file ${first})\n`,
  })
  const service = await ground.ship()
  const state = await untilState(service, 'all is stored', isIdle)
  t.same(await ground.stored(system), [...wal.names, '00000002.history', label].toSorted())
  t.equal(state.repositories[0]?.shippedSegments, wal.names.length)
  t.ok(Number(state.repositories[0]?.shippedBytes) > 0)
  t.ok(state.repositories[0]?.lastSuccessAt)
  t.equal(state.pruning, null)
  t.match(ground.storages[0]?.keys[0], /00000002\.history$/, 'the history was there before any segment')
  const segments = (ground.storages[0]?.keys ?? []).filter((key) => key.endsWith('.zst'))
  t.equal(segments.length, wal.names.length)
  for (const name of wal.names) t.ok(service.isStored(name), 'it is told to be stored')
  t.notOk(service.isStored('0000000100000000000000FF'))
  t.notOk(service.isStored('../x'))
  // As a person would, with the program of the system.
  const path = join(ground.roots[0] ?? '', segments.find((key) => key.includes(wal.names[0] ?? '')) ?? '')
  const out = join(ground.archive, 'unpacked')
  await runProgram({ program: 'zstd', args: ['-d', '-q', path, '-o', out] })
  t.ok((await readFile(out)).equals(await readFile(join(wal.directory, wal.names[0] ?? ''))))
  const listed = await runProgram({ program: 'zstd', args: ['-lv', path] })
  t.match(listed.stdout.toString(), /Decompressed Size: 1\.00+ MiB/, 'the frame tells how large the segment is')
  await rm(out)

  // The index sees it, and later segments come.
  const puts = ground.storages[0]?.puts
  await ground.look()
  await untilState(service, 'nothing is left', isIdle)
  t.equal(ground.storages[0]?.puts, puts, 'nothing is put again')
})

await t.test('another process goes on where one was stopped, by the index alone', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal, wal.names.slice(0, 3))
  const first = await ground.ship()
  await untilState(first, 'three', isIdle)
  await first.stop()
  await ground.fill(wal)
  const before = ground.storages[0]?.puts ?? 0
  const second = await ground.ship()
  const state = await untilState(second, 'the rest', isIdle)
  t.equal(state.repositories[0]?.shippedSegments, wal.names.length - 3)
  t.equal((ground.storages[0]?.puts ?? 0) - before, wal.names.length - 3)
  t.same(await ground.stored(system), wal.names)
})

await t.test('what is removed from the repository is shipped again; what was expired is not', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  let from = 0
  const service = await ground.ship({ shipFrom: () => from })
  await untilState(service, 'all', isIdle)
  await ground.look()
  const [repository] = ground.repositories
  const remove = async (name: string) => {
    for (const object of (await repository?.wal.ofSegment(system, name)) ?? []) await repository?.wal.remove(object)
  }
  await remove(wal.names[1] ?? '')
  await ground.look()
  await untilState(
    service,
    'it is there again',
    (state) => state.repositories[0]?.shippedSegments === wal.names.length + 1,
  )
  t.same(await ground.stored(system), wal.names)
  await ground.look()
  await untilState(service, 'idle', isIdle)
  from = Number.parseInt((wal.names[2] ?? '').slice(-8), 16)
  for (const name of wal.names.slice(0, 2)) await remove(name)
  await ground.look()
  t.equal(service.state().repositories[0]?.queued, 0)
  t.same(await ground.stored(system), wal.names.slice(2))
})

await t.test('a repository that hangs, and one that fails, delay only themselves', async (t) => {
  const ground = await shipGround(t, { repositories: 3 })
  await ground.fill(wal)
  const hung = Promise.withResolvers<void>()
  const [, hanging, failing] = ground.storages
  if (hanging) hanging.beforePut = () => hung.promise
  let attempts = 0
  if (failing)
    failing.beforePut = (key) => {
      attempts += 1
      if (attempts <= 1) throw new LifeboatError('disk-full', `cannot write ${key}: no space left`)
    }
  const service = await ground.ship()
  const state = await untilState(
    service,
    'the others are done',
    ({ repositories }) =>
      repositories[0]?.queued === 0 &&
      repositories[2]?.queued === 0 &&
      repositories[0].inFlight + repositories[2].inFlight === 0,
  )
  t.same(await ground.stored(system, 0), wal.names)
  t.same(await ground.stored(system, 2), wal.names)
  t.equal(state.repositories[1]?.inFlight, 2, 'no more than two hang')
  t.equal(state.repositories[1]?.shippedSegments, 0)
  t.equal(state.repositories[2]?.failures, 1)
  t.equal(state.repositories[2]?.failure, null, 'it works again')
  t.match(
    ground.lines.filter(({ msg }) => msg === 'WAL could not be shipped'),
    [{ code: 'disk-full', repository: 'repository-2' }],
    'told once',
  )
  hung.resolve()
  await untilState(service, 'it has let go', isIdle)
  t.same(await ground.stored(system, 1), wal.names)
})

await t.test('only who holds the lease ships', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  let isOurs = false
  const service = await ground.ship({ isOurs: async () => isOurs })
  await untilState(service, 'it waits', ({ repositories }) => repositories[0]?.waiting === 'lease')
  t.equal(ground.storages[0]?.puts, 0)
  isOurs = true
  service.hint()
  await untilState(service, 'all', isIdle)
  t.same(await ground.stored(system), wal.names)
})

await t.test('a partial that the server left at a fork; one that is still received is not', async (t) => {
  const ground = await shipGround(t)
  const [first = '', second = ''] = wal.names
  await ground.fill(wal, [first])
  await copyFile(join(wal.directory, second), join(ground.archive, `${second}.partial`))
  const service = await ground.ship()
  await untilState(service, 'the segment', isIdle)
  t.same(await ground.stored(system), [first], 'nothing tells that the timeline was left there')
  const place = Number.parseInt(second.slice(-8), 16)
  await ground.put({ '00000002.history': `1\t0/${(place * 0x100000 + 0x5000).toString(16)}\tpromoted\n` })
  await ground.look()
  await untilState(service, 'the partial', () =>
    (ground.storages[0]?.keys ?? []).some((key) => key.includes('.partial-')),
  )
  t.same(await ground.stored(system), [first, '00000002.history', `${second}.partial`].toSorted())
})

await t.test('partials of streaming: immutable, superseded, and gone with the whole one', async (t) => {
  const ground = await shipGround(t)
  const [first = '', second = ''] = wal.names
  await ground.fill(wal, [first])
  const service = await ground.ship()
  await untilState(service, 'the first', isIdle)
  const [repository] = ground.repositories
  if (repository === undefined) return t.fail()
  const bytes = await readFile(join(wal.directory, second))
  const segmentSize = bytes.length
  const start = BigInt(`0x${second.slice(-8)}`) * BigInt(segmentSize)
  const upTo = (endLsn: bigint) => {
    const partial = {
      systemIdentifier: system,
      segment: second,
      endLsn,
      bytes: bytes.subarray(0, Number(endLsn - start)),
    }
    return service.shipPartial(repository, partial)
  }
  const name = (end: bigint) => `${second}.partial.${end.toString(16).toUpperCase().padStart(16, '0')}`
  t.equal(await upTo(start + 8192n), 'stored')
  t.equal(await upTo(start + 8192n), 'there')
  t.equal(await upTo(start + 20000n), 'stored')
  t.same(await ground.stored(system), [first, name(start + 20000n)].toSorted())
  for (const endLsn of [start, start + BigInt(segmentSize), start + 30n])
    await t.rejects(upTo(endLsn), { code: 'usage-invalid' })
  const wrong = { systemIdentifier: '7', segment: second, endLsn: start + 8192n, bytes: bytes.subarray(0, 8192) }
  await t.rejects(service.shipPartial(repository, wrong), { code: 'usage-invalid' })
  await t.rejects(service.shipPartial(repository, { ...wrong, systemIdentifier: system, endLsn: start + 8193n }), {
    code: 'usage-invalid',
  })
  await ground.fill(wal, [second])
  await ground.look()
  await untilState(service, 'the whole one', isIdle)
  t.same(await ground.stored(system), [first, second], 'what it supersedes is removed')
  t.equal(await upTo(start + 30000n), 'whole')
})

await t.test('the archive is deleted and made anew while it is shipped', async (t) => {
  const ground = await shipGround(t)
  await ground.fill(wal)
  const service = await ground.ship()
  await rm(ground.archive, { recursive: true })
  await untilState(service, 'nothing is under way', ({ repositories }) => repositories[0]?.inFlight === 0)
  await mkdir(ground.archive)
  await ground.fill(wal)
  await ground.look()
  await untilState(service, 'all', isIdle)
  t.same(await ground.stored(system), wal.names)
  t.equal(service.state().repositories[0]?.quarantined.size, 0)
})

await t.test('segments larger than a piece', async (t) => {
  const large = await realWal(t, { segments: 2, megabytes: 32 })
  const ground = await shipGround(t, { repositories: 2 })
  await ground.fill(large)
  const service = await ground.ship()
  const state = await untilState(service, 'all', isIdle)
  t.same(await ground.stored(large.systemIdentifier, 0), large.names)
  t.same(await ground.stored(large.systemIdentifier, 1), large.names)
  t.ok(Number(state.repositories[0]?.shippedBytes) > 0)
  const key = ground.storages[0]?.keys.find((one) => one.endsWith('.zst')) ?? ''
  const out = join(ground.archive, 'unpacked')
  await runProgram({ program: 'zstd', args: ['-d', '-q', join(ground.roots[0] ?? '', key), '-o', out] })
  const original = await readFile(join(large.directory, key.split('/').at(-1)?.slice(0, 24) ?? ''))
  t.ok((await readFile(out)).equals(original))
  const stored = await readFile(join(ground.roots[0] ?? '', key))
  t.ok(zstdDecompressSync(stored).equals(original), 'in one frame: Node.js reads no more than the first')
})

await t.test('a half-written file of the archive waits until it is whole', async (t) => {
  const ground = await shipGround(t)
  const [first = '', second = ''] = wal.names
  await ground.fill(wal, [first])
  const bytes = await readFile(join(wal.directory, second))
  await writeFile(join(ground.archive, second), bytes.subarray(0, 100_000))
  const service = await ground.ship()
  await untilState(service, 'it is found', ({ repositories }) => repositories[0]?.quarantined.get('short') === 1)
  await writeFile(join(ground.archive, second), bytes)
  await ground.look(second)
  await untilState(service, 'both', ({ repositories }) => repositories[0]?.shippedSegments === 2)
  t.same(await ground.stored(system), [first, second])
  t.equal(service.state().repositories[0]?.quarantined.size, 0)
})

await t.test('encrypted', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const key = await ageKey(directory)
  // The sidecar has nothing but the public key; who looks has the private one.
  const sealing = new Cipher(encryptingFor([key], null))
  const [cipher, sealed] = [new Cipher(encryptingFor([key])), /[/-][0-9a-f]{12}\.zst\.age$/]
  const label = `${wal.names[0]}.00000028.backup`
  const fill = async (ground: ShipGround, names = wal.names) => {
    await ground.fill(wal, names)
    await ground.put({
      '00000002.history': history,
      [label]: `START WAL LOCATION: 0/100028 (file ${wal.names[0]})\nSTOP WAL LOCATION: 0/100100 (file ${wal.names[0]})\n`,
    })
  }

  await t.test('all that has data', async (t) => {
    const ground = await shipGround(t, { repositories: 2, cipher })
    await fill(ground)
    const service = await ground.ship({ cipher: sealing, parallel: 4 })
    const state = await untilState(service, 'all is stored', isIdle)
    const all = [...wal.names, '00000002.history', label].toSorted()
    const keys = ground.storages[0]?.keys.toSorted() ?? []
    for (const index of [0, 1]) {
      t.same(await ground.stored(system, index), all)
      t.same(ground.storages[index]?.keys.toSorted(), keys)
    }
    t.same(
      keys.filter((one) => !sealed.test(one)).map((one) => one.slice(one.lastIndexOf('/') + 1)),
      [label, '00000002.history'].toSorted(),
    )
    let bytes = 0
    for (const one of keys) bytes += (await readFile(join(ground.roots[0] ?? '', one))).length
    t.equal(state.repositories[0]?.shippedBytes, bytes, 'counted as stored')
    // As a person would, with the programs of the system.
    const name = wal.names[1] ?? ''
    const path = join(ground.roots[0] ?? '', keys.find((one) => one.includes(name)) ?? '')
    const unpacked = join(directory, 'unpacked')
    await runProgram({
      program: 'age',
      args: ['--decrypt', '--identity', key.file, '--output', `${unpacked}.zst`, path],
    })
    await runProgram({ program: 'zstd', args: ['-d', '-q', `${unpacked}.zst`] })
    t.ok((await readFile(unpacked)).equals(await readFile(join(wal.directory, name))))

    await t.test('without the private key its places are known, and its size by the server or a backup', async (t) => {
      const root = ground.roots[0] ?? ''
      const { log } = keptLog()
      const repository = new Repository({
        name: 'r',
        cluster: 'prod',
        storage: new LocalStorage({ root }),
        clock: systemClock,
        walCipher: sealing,
      })
      const records = { identity: () => null, load: () => null, save: () => {} }
      const look = async (segmentSize: number | null) => {
        const index = new StoredWalIndex({
          repository,
          records,
          segmentSize: () => segmentSize,
          clock: systemClock,
          log,
        })
        const found = (await index.lookAtAll(new AbortController().signal)).systems.get(system)
        await index.close()
        return found
      }
      t.equal(await look(null), undefined, 'unknown is not zero')
      t.match(await look(2 ** 20), { segments: wal.names.length, contradictions: 0 })
      // The same segment once more, plain; and by another process, which has the key.
      const bytes = await readFile(join(wal.directory, name))
      await repository.wal.put({ systemIdentifier: system, name, hash: hashOf(bytes) }, zstdCompressSync(bytes))
      t.match(await look(2 ** 20), { segments: wal.names.length, contradictions: 0 }, 'it is one')
      t.match(await look(null), { segments: wal.names.length, contradictions: 0 }, 'the plain one tells the size')
      const bad = Buffer.from(bytes).fill(7, 1000, 2000)
      await repository.wal.put({ systemIdentifier: system, name, hash: hashOf(bad) }, zstdCompressSync(bad))
      t.match(await look(2 ** 20), { segments: wal.names.length, contradictions: 1 }, 'other bytes are another one')
    })
  })

  await t.test('the setting changes in the middle: nothing is stored twice, and what was plain stays', async (t) => {
    const ground = await shipGround(t, { cipher })
    await ground.fill(wal, wal.names.slice(0, 2))
    const ship = async (names: readonly string[], with_: Cipher | null) => {
      await ground.fill(wal, names)
      const service = await ground.ship({ cipher: with_ })
      await untilState(service, 'all is stored', isIdle)
      await service.stop()
    }
    await ship(wal.names.slice(0, 2), null)
    await ship(wal.names.slice(0, 4), sealing)
    await ship(wal.names, null)
    t.same(await ground.stored(system), wal.names)
    t.same(
      ground.storages[0]?.keys.toSorted().map((one) => one.endsWith('.age')),
      wal.names.map((_, index) => index === 2 || index === 3),
    )
    // By an index that was lost: each is there, in whatever form. Other bytes under the name are not readable aside either.
    const other = await readFile(join(wal.directory, wal.names[2] ?? ''))
    other[50_001] = (other[50_001] ?? 0) ^ 1
    await ground.put({ [wal.names[2] ?? '']: other })
    const service = await ground.ship({
      cipher: sealing,
      stored: () => ({ repository: 'repository-0', systems: new Map(), revision: 1, listedAt: new Date() }),
    })
    const state = await untilState(service, 'all are looked at', isIdle)
    t.same([...(state.repositories[0]?.quarantined ?? [])], [['contradicts', 1]])
    t.same(await ground.stored(system), wal.names)
    t.same(
      (await ground.quarantined()).filter((one) => !sealed.test(one)),
      [],
    )
    t.equal((await ground.quarantined()).length, 1)
  })

  await t.test('a partial of streaming', async (t) => {
    const ground = await shipGround(t, { cipher })
    const service = await ground.ship({ cipher: sealing })
    const [repository] = ground.repositories
    const segment = wal.names[0] ?? ''
    const all = await readFile(join(wal.directory, segment))
    const endLsn = (readWalPageHeader(all)?.address ?? 0n) + 8192n
    const partial = { systemIdentifier: system, segment, endLsn, bytes: all.subarray(0, 8192) }
    if (repository === undefined) return
    t.equal(await service.shipPartial(repository, partial), 'stored')
    t.match(ground.storages[0]?.keys.at(-1), /\.partial\.[0-9A-F]{16}-[0-9a-f]{12}\.zst\.age$/)
    t.equal(await service.shipPartial(repository, partial), 'there')
    t.equal((await ground.stored(system)).length, 1)
  })

  await t.test('where it cannot be encrypted nothing is stored, and nothing plain', async (t) => {
    const ground = await shipGround(t)
    await ground.fill(wal)
    const recipientsFile = join(directory, 'recipients')
    const service = await ground.ship({ cipher: new Cipher({ recipients: [], recipientsFile, identityFile: null }) })
    const state = await untilState(service, 'it fails', ({ repositories }) => Boolean(repositories[0]?.failure))
    t.match(state.repositories[0]?.failure, { code: 'config-invalid', message: /recipients cannot be read/ })
    t.same(ground.storages[0]?.keys, [])
    await writeFile(recipientsFile, `${key.recipient}\n`)
    await untilState(service, 'it goes on by itself', isIdle)
    t.ok(ground.storages[0]?.keys.every((one) => sealed.test(one)))
  })
})
